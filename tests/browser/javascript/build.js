// Bundles the program of widget/ into the script that is served: `make widget`; `--check` compares only.
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { parse } from "acorn";
import { build, transform } from "esbuild";
import { minify } from "terser";

const ROOT = new URL("../../../", import.meta.url).pathname;
const SERVED = `${ROOT}src/hitcounter/web/static/widget.js`;
const MAX_BYTES = 6000; // gzipped
/** Properties of objects that only the program itself sees: neither of an answer nor of the page. */
const INTERNAL = /^(hasFailed|isRefused|isHidden|shown[LS]\w+|written|ends?|answer|before|at|tag)$/;

/** Takes style sheets in as texts, without their white space. @type {import("esbuild").Plugin} */
const styles = {
  name: "styles",
  setup(bundle) {
    bundle.onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(readFileSync(path, "utf8"), { loader: "css", minify: true });
      const contents = code.trim().replace(/([,:]) | (?=})/g, "$1");
      return { contents: contents.replace(/(--hc)-(.)\w+/g, "$1$2"), loader: "text" };
    });
  },
};

const { outputFiles } = await build({
  entryPoints: [`${ROOT}widget/main.js`],
  bundle: true,
  minifySyntax: true,
  format: "iife",
  target: "es2018",
  charset: "utf8",
  plugins: [styles],
  write: false,
});
const { code: text = "" } = await minify(outputFiles[0].text, {
  ecma: 2018,
  toplevel: true,
  mangle: { properties: { regex: INTERNAL, builtins: true } },
  compress: {
    passes: 6,
    booleans_as_integers: true,
    unsafe: true,
    unsafe_arrows: true,
    pure_getters: true,
    keep_fargs: false,
    hoist_funs: true,
  },
  // Chromium then compiles all of it beside the main thread, not each function on it when it first runs.
  format: { preamble: "//# allFunctionsCalledOnLoad" },
});
parse(text, { ecmaVersion: 2018 }); // throws at what the oldest browsers do not know
const size = gzipSync(text, { level: 9 }).length;
console.log(`widget.js: ${text.length} characters, ${size} bytes gzipped of at most ${MAX_BYTES}`);
if (size > MAX_BYTES) throw new Error("widget.js is too large");
if (!process.argv.includes("--check")) writeFileSync(SERVED, text);
else if (readFileSync(SERVED, "utf8") !== text) throw new Error("widget.js is not what widget/ builds: make widget");
