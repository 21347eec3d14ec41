"""One server and one browser for all tests, and a page of the front end for each renderer."""

from collections.abc import Iterator

import live
import pytest
from chrome import executable
from front_end import FrontEnd
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[live.Server]:
    with live.Server(tmp_path_factory.mktemp("browser"), metadata=True) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=executable(), args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["classic", "Nodes 2.0"])
def front_end(request, server, browser) -> Iterator[FrontEnd]:
    front_end = FrontEnd(server, browser, nodes_2=request.param == "Nodes 2.0")
    yield front_end
    front_end.close()
