"""How a query names a page, for the service and for the script alike.

Each case has the query of an address, as it came, and what of it is part of the page.
"""

NAMES = ("id", "nv", "op")
CASES = {
    "": "",
    "?": "",
    "?x=1": "",
    "?nv=news&id=5": "id=5&nv=news",
    "?id=5&id=6&op=": "id=5",
    "?id&id=5": "",
    "?id=&id=5&nv=1": "nv=1",
    "?x=1&&id=7&": "id=7",
    "?ID=5&aid=6&id2=7": "",
    "?id=a=b&op=ti%E1%BA%BFng": "id=a=b&op=tiếng",
    "?id=a+b&nv=%C3%A1&utm_source=x": "id=a b&nv=á",
    "??id=5&nv=2": "nv=2",
    "?id=1?2": "id=1%3F2",
    "?id=%26nv=3": "id=&nv=3",
}
