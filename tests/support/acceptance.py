"""What a real site showed on 19 April 2019, which a baseline carries over; and one hit more."""

SHOWN = {"today": 1129, "yesterday": 5318, "month": 179277, "year": 970735, "total": 1619938}
BASELINE = tuple(part for key, n in SHOWN.items() for part in (f"--{key}", str(n)))
LINES = [
    "Trong ngày: 1.129",
    "Hôm qua: 5.318",
    "Trong tháng: 179.277",
    "Trong năm: 970.735",
    "Tổng truy cập: 1.619.938",
]
ONE_MORE = [
    "Trong ngày: 1.130",
    "Hôm qua: 5.318",
    "Trong tháng: 179.278",
    "Trong năm: 970.736",
    "Tổng truy cập: 1.619.939",
]
