"""The manual as a browser shows it: built, then looked at on a wide screen and on a phone."""

import contextlib
import functools
import html
import http.server
import posixpath
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {"wide": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    """The folder of the pages, built as CONTRIBUTING says."""
    for module in ("sphinx", "furo", "numpydoc", "myst_parser", "sphinx_copybutton"):
        pytest.importorskip(module, reason=f"needs the extra docs ({module})")
    folder = tmp_path_factory.mktemp("manual")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html",
         "-d", folder / "doctrees", ROOT / "docs", folder / "html"],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "html"


ATTRIBUTE = re.compile(r'\s(href|src|id)="([^"]*)"')


@pytest.fixture(scope="module")
def pages(manual):
    """The links and the anchors of each page, by its path in the manual."""
    found = {}
    for page in manual.rglob("*.html"):
        links, anchors = [], {""}
        for name, value in ATTRIBUTE.findall(page.read_text()):
            if name == "id":
                anchors.add(html.unescape(value))
            else:
                links.append(html.unescape(value))
        found[page.relative_to(manual).as_posix()] = (links, anchors)
    return found


def test_every_link_within_the_manual_leads_somewhere(manual, pages):
    files = {path.relative_to(manual).as_posix() for path in manual.rglob("*") if path.is_file()}
    dead = []
    for page, (links, _) in pages.items():
        for link in sorted(set(links)):
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = urllib.parse.unquote(parts.path)
            near = posixpath.join(posixpath.dirname(page), path)
            target = posixpath.normpath(near) if path else page
            anchors = pages.get(target, ((), ()))[1]
            if target not in files or (
                anchors and urllib.parse.unquote(parts.fragment) not in anchors
            ):
                dead.append(f"{page}: {link}")
    assert dead == []


def test_every_public_name_has_an_entry(pages):
    import ipv4
    import ipv4.aio
    import ipv4.bpf
    import ipv4.types

    entries = set()
    for page, (_, anchors) in pages.items():
        if page.startswith("reference/"):
            entries |= anchors
    missing = [
        f"{module.__name__}.{name}"
        for module in (ipv4, ipv4.aio, ipv4.bpf, ipv4.types)
        for name in module.__all__
        if name not in ("aio", "bpf") and f"{module.__name__}.{name}" not in entries
    ]
    for cls in (ipv4.PacketConn, ipv4.RawConn, ipv4.Conn):
        missing += [
            f"{cls.__name__}.{name}"
            for name in dir(cls)
            if name[0] != "_"
            and not {f"ipv4.{c}.{name}" for c in ("PacketConn", "RawConn", "Conn")} & entries
        ]
    assert missing == []


@pytest.fixture(scope="module")
def browser(manual):
    """A function that opens a page of the manual, in Debian's chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra docs (playwright)")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs chromium (apt-get install chromium)")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(manual))
    )
    threading.Thread(target=server.serve_forever, name="pages").start()
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with contextlib.ExitStack() as stack:
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        play = stack.enter_context(api.sync_playwright())
        chromium = play.chromium.launch(executable_path=program, args=flags)
        stack.callback(chromium.close)

        def opened(width, height, scheme="light"):
            context = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page = context.new_page()
            page.base = f"http://127.0.0.1:{server.server_address[1]}"
            return page

        yield opened


def pages_of(manual):
    """The pages to read; the library's own source, shown beside them, may be as wide as it is."""
    return sorted(
        str(page.relative_to(manual))
        for page in manual.rglob("*.html")
        if page.parts[-2] not in ("_modules",) and "_modules" not in page.parts
    )


@pytest.mark.parametrize("screen", list(WIDTHS))
def test_no_page_scrolls_sideways_and_no_code_is_cut(browser, manual, screen):
    page = browser(*WIDTHS[screen])
    wrong = []
    for name in pages_of(manual):
        page.goto(f"{page.base}/{name}")
        width, room = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        if width > room:
            wrong.append(f"{name}: {width} pixels wide")
        # On a phone a line of code scrolls within its block; on a wide screen none has to.
        cut = page.evaluate(
            """wide => [...document.querySelectorAll('article pre')].filter(each =>
                 each.scrollWidth > each.clientWidth + 1 &&
                 (wide || getComputedStyle(each).overflowX != 'auto'))
               .map(each => each.innerText.split('\\n').sort((a, b) => b.length - a.length)[0])""",
            screen == "wide",
        )
        wrong += [f"{name}: cut: {line}" for line in cut]
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawings_can_be_read_in_both_modes(browser, manual, scheme):
    page = browser(*WIDTHS["wide"], scheme)
    seen = 0
    for name in pages_of(manual):
        if 'class="drawing"' not in (manual / name).read_text():
            continue
        page.goto(f"{page.base}/{name}")
        contrasts = page.evaluate(
            """() => { const rgb = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
                 const light = color => { const [r, g, b] = rgb(color).map(v => { v /= 255;
                   return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
                   return .2126 * r + .7152 * g + .0722 * b; };
                 const back = light(getComputedStyle(document.body).backgroundColor);
                 return [...document.querySelectorAll('svg.drawing text')].map(each => {
                   const ink = light(getComputedStyle(each).fill);
                   return (Math.max(ink, back) + .05) / (Math.min(ink, back) + .05); }); }"""
        )
        seen += len(contrasts)
        assert min(contrasts) > 4.5, name
    assert seen > 0


# What newcomers search for, and a page that they have to find it on.
SEARCHED = {
    "install": "install.html", "performance": "performance.html", "benchmark": "performance.html",
    "speed": "performance.html", "fast": "performance.html", "numpy": "performance.html",
    "trio": "howto/asyncio.html", "uvloop": "howto/asyncio.html", "timeout": "errors.html",
    "threads": "threads.html", "docker": "install.html", "Windows": "install.html",
    "macOS": "install.html", "troubleshooting": "troubleshooting.html",
    "changelog": "changes.html", "licence": "support.html", "license": "support.html",
    "security": "security.html", "multicast": "howto/groups.html", "DHCP": "recipes/dhcp.html",
    "join_group": "reference/groups.html", "EPERM": "troubleshooting.html",
}  # fmt: skip


def test_the_search_finds_what_newcomers_look_for(browser):
    page = browser(*WIDTHS["wide"])
    missing = {}
    for words, wanted in SEARCHED.items():
        page.goto(f"{page.base}/search.html?q={words}")
        # Results come one by one; the summary is written when all are there.
        page.wait_for_function(
            "/found|did not match/.test(document.querySelector('.search-summary')?.innerText)"
        )
        found = page.evaluate(
            "[...document.querySelectorAll('.search li a')].map(a => new URL(a.href).pathname)"
        )
        if f"/{wanted}" not in found:
            missing[words] = found
    assert missing == {}


def test_copying_leaves_out_prompts_and_output(browser, manual):
    """Every block that is not output has a button, and what that copies is a program's text."""
    page = browser(*WIDTHS["wide"])
    page.add_init_script(
        "window.copied = []; navigator.clipboard || Object.defineProperty(navigator, 'clipboard',"
        " {value: {}}); navigator.clipboard.writeText = text => {window.copied.push(text)}"
    )
    seen = 0
    for name in ("index.html", "install.html", "howto/batches.html", "reference/bpf.html"):
        page.goto(f"{page.base}/{name}")
        assert page.locator("div.highlight-text button.copybtn").count() == 0
        for block in page.locator("div.highlight:has(> button.copybtn)").all():
            block.hover()
            block.locator("button.copybtn").click()
            seen += 1
        copied = page.evaluate("window.copied")
        assert not [text for text in copied if text.startswith((">>> ", "$ ", "... "))], name
        assert all(copied)
    assert seen >= 10


def test_dark_mode_can_be_chosen_and_pages_lead_on(browser, manual):
    page = browser(*WIDTHS["wide"])
    page.goto(f"{page.base}/howto/mtu.html")

    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    shades = set()
    for _ in range(3):  # automatic, light, dark
        page.locator(".content-icon-container .theme-toggle").click()
        shades.add(background())
    assert len(shades) == 2
    assert page.locator(".sidebar-brand-text").inner_text().split()[-1] == version("ipv4")
    for way in "next", "prev":
        assert page.locator(f".related-pages a.{way}-page").get_attribute("href")


def test_navigation_is_on_every_screen(browser, manual):
    page = browser(*WIDTHS["wide"])
    page.goto(f"{page.base}/reference/options.html")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert page.locator(".sidebar-tree").bounding_box()["y"] < 800
    phone = browser(*WIDTHS["phone"])
    phone.goto(f"{phone.base}/reference/options.html")
    phone.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert phone.locator(".mobile-header").bounding_box()["y"] == 0
