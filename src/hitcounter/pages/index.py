"""The front page, served: the live block, and what to copy for the options of the query."""

from importlib import resources

from hitcounter.counting.counter import Counter
from hitcounter.pages import front_page
from hitcounter.pages.front_page import Choice
from hitcounter.site import site_name
from hitcounter.web import hit_request
from hitcounter.web.hit_request import Target
from hitcounter.web.proxies import our_origin, our_path
from hitcounter.web.request import Request
from hitcounter.web.responses import Response, no_store, response
from hitcounter.web.routes import Route, Routes, in_turn
from hitcounter.web.scripts import CURRENT, JAVASCRIPT

_SCRIPT = resources.files("hitcounter.pages").joinpath("static", "index.js").read_bytes()


async def index(counter: Counter, request: Request, target: Target) -> Response:
    """Show the live block, and what to copy for the options of the query."""
    fields = hit_request.fields(target, *front_page.FIELDS)
    look = front_page.chosen_look(fields)
    name = site_name(fields.get("site", front_page.first_site(counter.config)))
    site = counter.sites.find_or_describe(name).site
    origin = our_origin(request, counter.clients)
    # A look at this page is no visit of anybody's site.
    choice = Choice(site, look, counts=name == front_page.DEMO and site.admits(origin))
    server = origin + our_path(request, counter.clients)
    headers = no_store("text/html; charset=utf-8") | {"Content-Security-Policy": front_page.CSP}
    return response(front_page.page(choice, server, CURRENT).encode(), headers)


async def script(_counter: Counter, _request: Request, _target: Target) -> Response:
    """Serve the script of the front page."""
    return response(_SCRIPT, no_store(JAVASCRIPT))


ROUTES: Routes = {"/": Route("GET", in_turn(index)), "/index.js": Route("GET", script)}
