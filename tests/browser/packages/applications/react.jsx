import { createRoot, hydrateRoot } from "react-dom/client";
import { Application, Document } from "./application.jsx";

const path = location.pathname;
const root = document.querySelector("#root, #__next");
if (!root) hydrateRoot(document, <Document path={path} />);
else if (root.hasChildNodes()) hydrateRoot(root, <Application path={path} isTag={root.id === "__next"} />);
else createRoot(root).render(<Application path={path} />);
