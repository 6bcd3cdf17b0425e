// An application with three pages and a sidebar, where the block, or a tag that draws it, is one of its elements.
import { useEffect, useState } from "react";

export function Sidebar({ isTag }) {
  const tag = <script async src="COUNTER/widget.js" data-site="SITE"></script>;
  return <aside id="sidebar">{isTag ? tag : <hit-counter server="COUNTER" site="SITE"></hit-counter>}</aside>;
}

export function Application({ path, isTag }) {
  const [current, setCurrent] = useState(path);
  useEffect(() => {
    const follow = () => setCurrent(location.pathname);
    addEventListener("popstate", follow);
    return () => removeEventListener("popstate", follow);
  }, []);
  const go = (event, to) => {
    event.preventDefault();
    history.pushState(null, "", to);
    setCurrent(to);
  };
  return (
    <div>
      <nav>
        {["/a", "/b", "/c"].map((to) => (
          <a key={to} id={`to-${to[1]}`} href={to} onClick={(event) => go(event, to)}>
            {to}
          </a>
        ))}
      </nav>
      <h1>{current}</h1>
      <Sidebar key={current} isTag={isTag} />
    </div>
  );
}

export function Document({ path }) {
  return (
    <html lang="vi">
      <head>
        <title>Tin tức</title>
      </head>
      <body>
        <Application path={path} />
        <script async src="COUNTER/widget.js"></script>
        <script src="/application.js"></script>
      </body>
    </html>
  );
}
