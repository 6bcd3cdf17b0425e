"""What optimisers and loaders make of a page, rewritten after what they are documented to do.

No registry here has these programs. Each takes the markup of a body and returns what is sent.
"""

import re
from collections.abc import Callable

from tests.browser.pages import Pages

Loader = Callable[[str], str]
SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>", re.DOTALL)
SRC = re.compile(r'\bsrc="([^"]*)"')

# Puts a script that runs in the place of each that was kept from running.
REVIVE = """<script>
(() => {
  const revive = () => {
    for (const kept of [...document.querySelectorAll('SELECTOR')]) {
      const script = document.createElement("script");
      for (const { name, value } of kept.attributes) {
        if (name === "SOURCE") script.src = value;
        else if (name !== "type" && name !== "data-type") script.setAttribute(name, value);
      }
      script.text = kept.text;
      kept.replaceWith(script);
    }
  };
  WHEN
})();
</script>"""
AT_LOAD = 'addEventListener("load", revive);'
AT_INTERACTION = """for (const type of ["keydown", "mousemove", "touchstart", "wheel", "scroll"])
    addEventListener(type, revive, { once: true, passive: true });"""


def reviving(selector: str, source: str, when: str) -> str:
    """Write the client of a loader that keeps scripts for later."""
    code = REVIVE.replace("SELECTOR", selector).replace("SOURCE", source)
    return code.replace("WHEN", when)


def keep_scripts(body: str, kind: str, source: str, opt_out: str = " ") -> str:
    """Change scripts so that the browser passes them over, but for those that opt out."""

    def _keep(match: re.Match[str]) -> str:
        if opt_out in match[1].split():
            return match[0]
        attributes = match[1].replace(" src=", f" {source}=")
        return f"<script {kind}{attributes}>{match[2]}</script>"

    return SCRIPT.sub(_keep, body)


def untouched(body: str) -> str:
    """Leave a page as it is."""
    return body


def moves_scripts(body: str) -> str:
    """Move scripts to the end of the body, one per address, as NukeViet 4.5 does."""
    kept: dict[str, str] = {}

    def _move(match: re.Match[str]) -> str:
        if 'data-show="inline"' in match[1]:
            return match[0]
        source = SRC.search(match[1])
        kept.setdefault(source[1] if source else match[0], match[0])
        return ""

    return SCRIPT.sub(_move, body) + "".join(kept.values())


def defers(body: str) -> str:
    """Defer all scripts, where they stand, as Autoptimize does."""
    return body.replace('async=""', 'defer="defer"')


def rocket_loader(body: str) -> str:
    """Run scripts after the page was loaded, as Cloudflare's Rocket Loader does."""
    kept = keep_scripts(body, 'type="0f1e2d3c-text/javascript"', "src", 'data-cfasync="false"')
    return kept + reviving('script[type$="-text/javascript"]', "src", AT_LOAD)


def pagespeed(body: str) -> str:
    """Run scripts after the page was loaded, as PageSpeed's "defer" does."""
    source = "data-pagespeed-orig-src"
    kept = keep_scripts(body, 'type="text/psajs"', source, 'data-pagespeed-no-defer=""')
    return kept + reviving('script[type="text/psajs"]', source, AT_LOAD)


def wp_rocket(body: str) -> str:
    """Run scripts at the first interaction, as WP Rocket's "delay" does."""
    source = "data-rocket-src"
    kept = keep_scripts(body, 'type="rocketlazyloadscript"', source, 'nowprocket=""')
    return kept + reviving('script[type="rocketlazyloadscript"]', source, AT_INTERACTION)


def litespeed(body: str) -> str:
    """Run scripts at the first interaction, as LiteSpeed's "delay" does."""
    kept = keep_scripts(body, 'type="litespeed/javascript"', "data-src", 'data-no-defer="1"')
    return kept + reviving('script[type="litespeed/javascript"]', "data-src", AT_INTERACTION)


def flying_scripts(body: str) -> str:
    """Run scripts at the first interaction, as Flying Scripts does."""
    kept = keep_scripts(body, 'type="text/javascript" data-type="lazy"', "data-src")
    return kept + reviving('script[data-type="lazy"]', "data-src", AT_INTERACTION)


def editor_filter(body: str) -> str:
    """Remove what NukeViet's editor removes from a text."""
    return re.sub(r"</?(script|iframe|hit-counter)\b[^>]*>", "", body)


IN_PLACE: dict[str, Loader] = {
    "nothing": untouched,
    "Autoptimize": defers,
    "Rocket Loader": rocket_loader,
    "PageSpeed": pagespeed,
}
DELAYED: dict[str, Loader] = {
    "WP Rocket": wp_rocket,
    "LiteSpeed": litespeed,
    "Flying Scripts": flying_scripts,
}


# Those that a script can opt out of; the documents have one tag with all of these attributes.
WITH_OPT_OUT: dict[str, Loader] = {
    "NukeViet": moves_scripts,
    "Rocket Loader": rocket_loader,
    "PageSpeed": pagespeed,
    "WP Rocket": wp_rocket,
    "LiteSpeed": litespeed,
}


def rehosted(pages: Pages, script: str) -> str:
    """Serve a copy of the script from the web site, and write the tag that loads it."""
    pages.put("/cache/1f2e3d.js", script, "text/javascript")
    return '<script src="/cache/1f2e3d.js" async=""></script>'


def combined(pages: Pages, script: str) -> str:
    """Serve the script between others in one file, as JCH Optimize and Autoptimize do."""
    others = "window.menu = function () {}"
    return rehosted(pages, f"{others};\n{script};\n{others};").replace('async=""', "defer")


def inlined(pages: Pages, script: str) -> str:
    """Write the script into the page."""
    escaped = script.replace("</script", "<\\/script")
    return f"<script>{escaped}</script>"


def evaluated(pages: Pages, script: str) -> str:
    """Fetch the script and evaluate it, as loaders for old libraries do."""
    pages.put("/cache/1f2e3d.js", script, "text/javascript")
    return "<script>fetch('/cache/1f2e3d.js').then((r) => r.text()).then(eval)</script>"


COPIES: dict[str, Callable[[Pages, str], str]] = {
    "re-hosted": rehosted,
    "combined": combined,
    "inlined": inlined,
    "evaluated": evaluated,
}
