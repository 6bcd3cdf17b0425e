"""Where blocks stand on real pages: columns, boxes and footers whose styles are none of ours.

Those of Bootstrap are as it ships them. Those of NukeViet's default theme are written after what
they do: a floating column, a panel with a heading, a small font, styles for bare elements.
"""

from tests.browser import packages

PLACE = "<!--place-->"
TITLED = f'<h3 class="panel-title">Thống kê</h3></div><div class="panel-body">{PLACE}</div></div>'
NUKEVIET = """
  body { font: 13px/1.43 Roboto, "Liberation Sans", Arial, sans-serif; color: #333 }
  h1, h2, h3 { font-size: 18px; margin: 0 0 10px; color: #006ead; text-transform: uppercase }
  ul { padding: 0 0 0 20px; list-style: square } li { line-height: 24px; border-bottom: 1px dotted }
  section { padding: 20px } svg { max-width: 5px } data { float: left } span { color: red }
  .col { float: left; width: 240px; padding: 0 10px; box-sizing: border-box }
  .panel { border: 1px solid #428bca; border-radius: 4px; overflow: hidden }
  .panel-heading { padding: 6px 10px; color: #fff; background: #428bca }
  .panel-title { margin: 0; font-size: 14px; color: inherit } .panel-body { padding: 10px }
"""
STYLED = {
    "nukeviet": (
        NUKEVIET,
        f'<div class="col"><div class="panel"><div class="panel-heading">{TITLED}</div>',
    ),
    "red box": (
        ".box { width: 210px; padding: 16px; color: #fff; background: #8c1220; font: 15px Arial }",
        f'<div class="box">{PLACE}</div>',
    ),
    "dark footer": (
        "footer { display: flex; gap: 24px; padding: 12px 20px; color: #ddd; background: #333;"
        " font: 13px Arial }",
        f"<footer><p>© 2019 Liên hiệp Hội</p>{PLACE}</footer>",
    ),
    "right to left": (
        "aside { direction: rtl; width: 220px; font: 16px serif; letter-spacing: 1px }",
        f"<aside>{PLACE}</aside>",
    ),
    "narrow table": (
        "td { width: 170px; font: italic 14px Georgia, serif; text-align: center }",
        f'<table border="1"><tr><td>{PLACE}</td><td>Bài viết</td></tr></table>',
    ),
}
BOOTSTRAP = {
    "bootstrap-3": '<div class="container"><div class="row"><div class="col-xs-3">'
    f'<div class="panel panel-default"><div class="panel-heading">{TITLED}</div></div></div>',
    "bootstrap-5": '<div class="container" data-bs-theme="dark"><div class="row">'
    '<div class="col-4"><div class="card"><div class="card-header">Thống kê truy cập</div>'
    f'<div class="card-body">{PLACE}</div></div></div></div></div>',
}
NAMES = (*STYLED, *BOOTSTRAP)
TITLED_BOXES = ("nukeviet", *BOOTSTRAP)


def surrounded(name: str, place: str) -> tuple[str, str]:
    """Return the styles of a page, and what stands in it around a place of ours."""
    if name in STYLED:
        styles, body = STYLED[name]
    else:
        styles, body = packages.shipped(f"{name}/dist/css/bootstrap.min.css"), BOOTSTRAP[name]
    return f"<style>{styles}</style>", body.replace(PLACE, place)
