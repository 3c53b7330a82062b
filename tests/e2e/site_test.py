"""The example of a site, in a browser: HTTPS and HTTP/2, static files, an event stream, an export in pieces."""
import os

from browser import Page
from support import EVLUASERVER, SANITIZED, SOURCE, Program, check, main


def test_the_site():
    if SANITIZED:
        print("  (too slow for a browser: the page was not opened)")
        return
    folder = os.path.join(SOURCE, "examples", "site")
    program = Program(EVLUASERVER, os.path.join(folder, "app.lua"), "--static", os.path.join(folder, "public"),
                      "--compress", "5", "--tls-auto-dev", "--listen", "127.0.0.1:0")
    with program:
        url = "https://localhost:" + program.word_after("https://127.0.0.1:")
        with Page(url + "/") as page:
            clock = "document.getElementById('clock')?.textContent"
            first = page.wait_for(f"/^[0-9:]{{8}}$/.test({clock}) && {clock}")
            page.wait_for(f"{clock} != '{first}'")
            page.wait_for("document.getElementById('about').textContent.startsWith('HTTP/2.0, TLSv1.3, ')")
            lines = page.value("fetch('export.csv').then(async (answer) => (await answer.text()).split('\\n'))")
            check(len(lines) == 100_002 and lines[0] == "n,square", len(lines), lines[:3])
            check(lines[1:-1] == [f"{n},{n * n}" for n in range(1, 100_001)] and lines[-1] == "", lines[-3:])
            check(len({pixel for row in page.picture() for pixel in row}) > 20, "text is drawn")
            later = page.value(clock)
            page.wait_for(f"{clock} != '{later}'")
            protocols = page.value("performance.getEntries().map((entry) => entry.nextHopProtocol)"
                                   ".filter((protocol) => protocol)")
            check(len(protocols) >= 5 and set(protocols) == {"h2"}, protocols)
            check(page.complaints == [], page.complaints)
        check(program.stop() == 0, program.text)


main(globals())
