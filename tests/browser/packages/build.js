// Builds what no package ships ready for a browser: applications, rendered pages, old browsers.
// "COUNTER" and "SITE" in them are filled in by the test that serves them.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
import { build } from "esbuild";

const BUILT = "node_modules/built";
const BROWSERS = { 74: "chromium-74.0.3723.0.br", 83: "chromium.br" };

/** Bundle an application with one of the two Reacts. */
async function bundle(source, version, outfile, options) {
  await build({
    entryPoints: [`applications/${source}`],
    outfile: `${BUILT}/${outfile}`,
    bundle: true,
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
    alias: { react: `react-${version}`, "react-dom": `react-dom-${version}` },
    logLevel: "error",
    ...options,
  });
}

/** Write what a server sends for an application that is hydrated. */
async function render(version) {
  const renderer = `rendered-${version}.cjs`;
  await bundle("rendered.jsx", version, renderer, { platform: "node" });
  execFileSync("node", [`${BUILT}/${renderer}`, BUILT, version]);
}

function unpackBrowser(version, name) {
  const path = `${BUILT}/chromium-${version}`;
  writeFileSync(path, brotliDecompressSync(readFileSync(`node_modules/chromium-${version}/bin/${name}`)));
  chmodSync(path, 0o755);
}

function buildAstro() {
  const environment = { ...process.env, ASTRO_TELEMETRY_DISABLED: "1" };
  execFileSync("node_modules/.bin/astro", ["build", "--root", "astro", "--silent"], { env: environment, stdio: "inherit" });
  cpSync("astro/dist", `${BUILT}/astro`, { recursive: true });
}

rmSync(BUILT, { recursive: true, force: true });
mkdirSync(BUILT);
for (const version of ["18", "19"]) {
  await bundle("react.jsx", version, `react-${version}.js`);
  await render(version);
}
await bundle("router.jsx", "19", "router.js");
buildAstro();
for (const [version, name] of Object.entries(BROWSERS)) unpackBrowser(version, name);
