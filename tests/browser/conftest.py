"""A real browser on the test project's pages.

Tests take `browser`, a headless Chromium that is logged in as a superuser on pytest-django's live server.
Set DJQUEUE_SCREENSHOTS to a directory to keep what it saw.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver

from tests.support.servers import missing


class Browser:
    """What the tests want of a browser."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        self.address = address

    def log_in(self, client: Client) -> None:
        """Take over the session of a test client."""
        self.open("/admin/login/")
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        self.driver.add_cookie({"name": settings.SESSION_COOKIE_NAME, "value": session})

    def open(self, path: str) -> None:
        """Show a page."""
        self.driver.get(self.address + path)

    def look(self, *, width: int, dark: bool) -> None:
        """Change the window's width and the theme that the system asks for."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})

    def ask(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """Return what the console has to say since the last call; the test project has no icon."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in said if "favicon.ico" not in message]

    def keep(self, name: str) -> None:
        """Save what is seen, if somebody wants to look at it."""
        if directory := os.environ.get("DJQUEUE_SCREENSHOTS"):
            Path(directory).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(directory, f"{name}.png")))


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start one Chromium for the whole run."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        missing("No browser: apt-get install chromium chromium-driver.")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield running
    running.quit()


@pytest.fixture
def browser(driver: Any, live_server: LiveServer, admin_client: Client) -> Iterator[Browser]:
    """Return the browser, logged in."""
    shown = Browser(driver, live_server.url)
    shown.log_in(admin_client)
    yield shown
    driver.delete_all_cookies()
