// React Router: of paths, or, where the address has a fragment, of fragments.
import { createRoot } from "react-dom/client";
import { BrowserRouter, HashRouter, Link, Navigate, Route, Routes, useLocation } from "react-router";
import { Sidebar } from "./application.jsx";

function Page() {
  const { pathname } = useLocation();
  return (
    <div>
      <nav>
        {["/a", "/b", "/c", "/moved"].map((to) => (
          <Link key={to} id={`to-${to.slice(1)}`} to={to}>
            {to}
          </Link>
        ))}
      </nav>
      <h1>{pathname}</h1>
      <Sidebar key={pathname} />
    </div>
  );
}

const Router = location.hash ? HashRouter : BrowserRouter;
createRoot(document.querySelector("#root")).render(
  <Router>
    <Routes>
      <Route path="/moved" element={<Navigate to="/c" replace />} />
      <Route path="*" element={<Page />} />
    </Routes>
  </Router>,
);
