import { createRoot, hydrateRoot } from "react-dom/client";
import { Application, Document } from "./application.jsx";

const path = location.pathname;
const root = document.querySelector("#root");
if (!root) hydrateRoot(document, <Document path={path} />);
else if (root.hasChildNodes()) hydrateRoot(root, <Application path={path} />);
else createRoot(root).render(<Application path={path} />);
