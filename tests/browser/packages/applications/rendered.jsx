import { writeFileSync } from "node:fs";
import { renderToString } from "react-dom/server";
import { Application, Document } from "./application.jsx";

const [, , directory, version] = process.argv;
writeFileSync(`${directory}/root-${version}.html`, renderToString(<Application path="/a" />));
writeFileSync(`${directory}/tag-${version}.html`, renderToString(<Application path="/a" isTag />));
writeFileSync(`${directory}/document-${version}.html`, `<!doctype html>${renderToString(<Document path="/a" />)}`);
