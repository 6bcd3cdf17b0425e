"""Who is a robot: samples of our own writing, of all that visits sites of this country."""

import pytest
from is_bot import Bots

from hitcounter.robots import MAX_AGENT, Robots

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"
ANDROID = "Mozilla/5.0 (Linux; Android 15; SM-A156E Build/AP3A.240905.015.A2; wv)"
WEBVIEW = f"{ANDROID} AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/140.0.1.2 Mobile"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15"
PEOPLE = {
    "chrome": f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} Safari/537.36",
    "edge": f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/140.0.0.0",
    "firefox": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "safari": f"{IPHONE} (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "coc coc": f"Mozilla/5.0 (Windows NT 10.0) {CHROME} coc_coc_browser/140.0.120 Safari/537.36",
    "coc coc, old": f"Mozilla/5.0 (Windows NT 6.1) coc_coc_browser/50.0.125 {CHROME} Safari/537.36",
    "zalo": f"{WEBVIEW} Safari/537.36 Zalo android/25080311 ZaloTheme/light ZaloLanguage/vi",
    "zalo, iOS": f"{IPHONE} (KHTML, like Gecko) Mobile/15E148 Zalo iOS/710 ZaloTheme/dark",
    "zalo, desktop": f"Mozilla/5.0 (Windows NT 10.0; WOW64) {CHROME} ZaloPC-win32-25v8 Electron/2",
    "facebook": f"{WEBVIEW} Safari/537.36 [FB_IAB/FB4A;FBAV/480.0.0.54.88;IABMV/1;]",
    "facebook, iOS": f"{IPHONE} (KHTML, like Gecko) Mobile/22F76 [FBAN/FBIOS;FBAV/525.0;FBOP/8]",
    "messenger": f"{WEBVIEW} Safari/537.36 [FB_IAB/Orca-Android;FBAV/470.0.0.12.74;]",
    "instagram": f"{IPHONE} (KHTML, like Gecko) Mobile/15E148 Instagram 390.0.0.28.85 (vi_VN)",
    "threads": f"{WEBVIEW} Safari/537.36 Barcelona 390.0.0.28.85 Android (35/15; 420dpi; vi_VN)",
    "a phone named Spider": f"Mozilla/5.0 (Linux; Android 15; Spider 9) {CHROME} Safari/537.36",
    "tiktok": f"{WEBVIEW} Safari/537.36 musical_ly_2023 JsSdk/1.0 NetType/WIFI Channel/googleplay",
    "cubot": f"Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) {CHROME} Mobile Safari/537.36",
    "television": f"Mozilla/5.0 (Linux; Android 12; Chromecast Google TV) {CHROME} Safari/537.36",
    "mail": "Mozilla/5.0 (Windows NT 5.1) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
}
ROBOTS = {
    "coc coc": "Mozilla/5.0 (compatible; coccocbot-web/1.0; +http://help.coccoc.com/searchengine)",
    "facebook": "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "zalo": "ZaloPC-win32-24v567",
    "viber": "Viber/20.1",
    "google": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "google, phone": f"{ANDROID} {CHROME} Mobile (compatible; Googlebot/2.1; +http://g.vn/bot)",
    "a liar": f"{ANDROID} {CHROME} Zalo android/1 (compatible; OurBot/1.0; +https://bot.example)",
    "headless": f"Mozilla/5.0 (X11; Linux x86_64) {CHROME.replace('Ch', 'HeadlessCh')} Safari/537",
    "lighthouse": f"Mozilla/5.0 (Linux; Android 11) {CHROME} Mobile Safari/537 Chrome-Lighthouse",
    "monitor": "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "curl": "curl/8.14.1",
    "wget": "Wget/1.21.3",
    "python": "python-requests/2.32.3",
    "java": "Java/17.0.1",
    "go": "Go-http-client/2.0",
    "node": "node-fetch",
    "whatsapp": "WhatsApp/2.23.20.0",
    "telegram": "TelegramBot (like TwitterBot)",
    "nobody": "",
    "blank": " ",
}


@pytest.fixture(scope="module")
def robots() -> Robots:
    """Know no more robots than the package does."""
    return Robots()


@pytest.mark.parametrize("who", PEOPLE)
def test_people_are_no_robots(robots: Robots, who: str) -> None:
    assert not robots.has(PEOPLE[who])


@pytest.mark.parametrize("who", ROBOTS)
def test_robots_are_known(robots: Robots, who: str) -> None:
    assert robots.has(ROBOTS[who])


def test_what_is_split_judges_as_the_whole_does(robots: Robots) -> None:
    agents = {*PEOPLE.values(), *ROBOTS.values()} - {"", " "}
    agents |= {f"x {word} y/1 (a" for pattern in Bots().patterns for word in pattern.split("\\b")}
    split = {agent for agent in agents if robots._matches(agent.lower())}
    assert len(agents) > 200
    assert split ^ {agent for agent in agents if Bots().is_bot(agent)} <= {ROBOTS["viber"]}


def test_an_operator_has_more_words() -> None:
    agent = f"{PEOPLE['chrome']} OurWatcher/1"
    assert not Robots().has(agent)
    assert Robots(["ourWatcher"]).has(agent)


@pytest.mark.parametrize(
    "agent",
    ["a" * 8000, "(" * 8000, "1.1" * 3000, "a/1.1.1.1" * 900, ";a" * 4000, "\udcff\0" * 4000],
)
def test_only_the_begin_of_an_agent_is_looked_at(robots: Robots, agent: str) -> None:
    assert robots.has(agent) is robots.has(agent[:MAX_AGENT])
