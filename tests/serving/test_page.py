"""The web page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from nanochat.inference.sampling import Sampler
from tests.serving.test_api import slow_down
from tests.serving.tools import ServerThread, random_model, running_server, wait_until

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)  # milliseconds: the machine may be busy
    with sync_playwright() as playwright:
        # the sandbox does not start as root, as in containers; the browser only opens this server's page
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[ServerThread]:
    with running_server(random_model(context=512), per_minute=0) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: ServerThread) -> Iterator[Page]:
    with browser.new_context() as context:
        yield opened(context.new_page(), server.url)


def opened(page: Page, url: str) -> Page:
    page.set_default_timeout(60_000)
    page.errors = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.errors.append(str(error)))  # type: ignore[attr-defined]
    page.on("console", lambda m: m.type == "error" and page.errors.append(m.text))  # type: ignore[attr-defined]
    page.goto(url)
    expect(page.locator(".suggestion").first).to_be_visible()
    return page


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def fix_answer(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every model answer with this text."""

    class ScriptedSampler(Sampler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.remaining = [*text.encode(), 260]  # <|assistant_end|>

    def next_tokens(logits: Any, samplers: list[ScriptedSampler], texts: Any) -> list[int]:
        return [sampler.remaining.pop(0) for sampler in samplers]

    monkeypatch.setattr("nanochat.inference.engine.Sampler", ScriptedSampler)
    monkeypatch.setattr("nanochat.inference.engine.choose", next_tokens)


def test_answer_is_streamed_and_stopped(page: Page, server: ServerThread) -> None:
    slow_down(server, 0.2)
    ask(page, "Hello")
    answer = page.locator(".from-assistant .text")
    expect(page.locator(".from-user")).to_contain_text("Hello")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answer).not_to_be_empty()
    early = answer.inner_text()
    expect(answer).not_to_have_text(early)
    assert len(answer.inner_text()) > len(early) > 0
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".from-assistant .notice")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert page.errors == []  # type: ignore[attr-defined]


def test_escape_cancels_and_keeps_the_text(page: Page, server: ServerThread) -> None:
    slow_down(server, 0.2)
    ask(page, "Hello")
    expect(page.locator(".from-assistant .text")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator(".from-assistant .notice")).to_have_text("Stopped.")
    wait_until(lambda: server.worker.load[0] == 0)
    assert page.locator(".from-assistant .text").inner_text()


def test_reload_keeps_the_conversation(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_answer("I am here.", monkeypatch)
    ask(page, "Who is there?")
    expect(page.locator(".stats")).to_be_visible()
    page.get_by_label("Your message").fill("unsent")
    page.reload()
    expect(page.locator(".from-user .plain-text")).to_have_text("Who is there?")
    expect(page.locator(".from-assistant .text")).to_have_text("I am here.")
    expect(page.get_by_label("Your message")).to_have_value("unsent")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".message")).to_have_count(0)
    page.reload()
    expect(page.locator(".greeting")).to_be_visible()
    page.get_by_role("button", name="Restore the last chat").click()
    expect(page.locator(".from-assistant .text")).to_have_text("I am here.")


def test_reload_during_an_answer_keeps_its_text(page: Page, server: ServerThread) -> None:
    slow_down(server, 0.2)
    ask(page, "Hello")
    expect(page.locator(".from-assistant .text")).not_to_be_empty()
    page.reload()
    expect(page.locator(".from-assistant .notice")).to_have_text("Stopped.")
    assert page.locator(".from-assistant .text").inner_text()


def test_tabs_have_separate_conversations(page: Page, server: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_answer("Yes.", monkeypatch)
    other = opened(page.context.new_page(), server.url)
    for tab, text in ((page, "One"), (other, "Two")):
        ask(tab, text)
        expect(tab.locator(".stats")).to_be_visible()
    page.reload()
    expect(page.locator(".from-user .plain-text")).to_have_text("One")
    third = page.context.new_page()
    third.goto(server.url)
    expect(third.locator(".from-user .plain-text")).to_have_text("Two")  # the latest of all tabs
    third.get_by_role("button", name="New chat").click()
    third.reload()
    expect(third.locator(".greeting")).to_be_visible()


INVALID = ("null", "{", '{"length": 3}', '[null, 7, {"role": "user", "content": 1}, {"role": "cook", "content": ""}]')


def test_invalid_storage_is_ignored(page: Page) -> None:
    for stored in INVALID:
        fresh = page.context.new_page()
        for name in ("messages", "previous", "settings", "draft", "theme"):
            fresh.add_init_script(f"localStorage.setItem('nanochat.{name}', {stored!r})")
        opened(fresh, page.url)
        expect(fresh.get_by_role("button", name="Restore the last chat")).to_be_hidden()
        ask(fresh, "Hello")
        expect(fresh.locator(".stats")).to_be_visible()
        assert fresh.errors == []  # type: ignore[attr-defined]


def test_full_storage(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_answer("Yes.", monkeypatch)
    page.evaluate("localStorage.setItem('full', 'x'.repeat(5 * 2 ** 20 - 200))")
    page.evaluate("sessionStorage.setItem('full', 'x'.repeat(5 * 2 ** 20 - 200))")
    for number in range(3):
        ask(page, "x" * 100)
        expect(page.locator(".from-assistant .text")).to_have_text(["Yes."] * (number + 1))
    assert page.errors == []  # type: ignore[attr-defined]


def test_retry_and_edit(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(page, "One")
    expect(page.locator(".stats")).to_be_visible()
    first = page.locator(".from-assistant .text").inner_text()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".from-assistant .text")).not_to_have_text(first)
    expect(page.locator(".stats")).to_be_visible()
    fix_answer("Yes.", monkeypatch)
    ask(page, "Two")
    expect(page.locator(".from-assistant .text").nth(1)).to_have_text("Yes.")
    page.locator(".from-user").first.hover()
    page.get_by_role("button", name="Edit").first.click()
    field = page.locator(".edit textarea")
    expect(field).to_be_focused()
    field.fill("Three")
    field.press("Enter")
    expect(page.locator(".from-user .plain-text")).to_have_text(["Three"])
    expect(page.locator(".from-assistant .text")).to_have_text(["Yes."])
    page.keyboard.press("ArrowUp")
    expect(field).to_have_value("Three")
    page.keyboard.press("Escape")
    expect(page.locator(".from-user .plain-text")).to_have_text(["Three"])


def test_copy(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_answer("Take `this`:\n\n```\na < b\n```", monkeypatch)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, "Give")
    expect(page.locator(".stats")).to_be_visible()
    page.locator(".from-assistant .actions").get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == "Take `this`:\n\n```\na < b\n```"
    page.get_by_role("button", name="Copy code").click()
    assert page.evaluate("navigator.clipboard.readText()") == "a < b"


HOSTILE = (
    "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">\n\n"
    '[a](javascript://x) [b](https://a.example/"onmouseover=x) **bold** *args and **kwargs __init__ '
    "`<b>code</b>`\n\n"
    "- one\n- two\n\n```html\n<i>raw</i>\n```"
)


def test_answer_never_becomes_html(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_answer(HOSTILE, monkeypatch)
    ask(page, "<img src=x onerror=alert(1)>")
    expect(page.locator(".stats")).to_be_visible()
    answer = page.locator(".from-assistant .text")
    assert "<script>document.title='broken'</script>" in answer.inner_text()
    assert "[a](javascript://x)" in answer.inner_text()
    assert "*args and **kwargs __init__" in answer.inner_text()
    expect(page.locator("#log :is(script, img, iframe, i, b, style)")).to_have_count(0)
    assert all(link.get_attribute("href").startswith("https://") for link in answer.locator("a").all())  # type: ignore[union-attr]
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.locator("li")).to_have_text(["one", "two"])
    expect(answer.locator("code")).to_have_text(["<b>code</b>", "<i>raw</i>"])
    expect(page.locator(".from-user .plain-text")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.title() == "babbler · nanochat"
    assert page.errors == []  # type: ignore[attr-defined]


def test_server_outage_and_recovery(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.serving.server.SHUTDOWN_TIMEOUT", 60)  # a busy machine may need more than 2 s
    server = ServerThread(random_model(context=512))
    with browser.new_context() as context:
        page = opened(context.new_page(), server.url)
        slow_down(server, 0.2)
        ask(page, "Hello")
        expect(page.locator(".from-assistant .text")).not_to_be_empty()
        server.stop()
        expect(page.locator(".from-assistant .error")).to_contain_text("the server is stopping")
        assert page.locator(".from-assistant .text").inner_text()  # the text so far is kept
        page.get_by_role("button", name="Try again").first.click()
        expect(page.locator(".from-assistant .error")).to_contain_text("The server is not reachable.")
        expect(page.locator("#offline")).to_be_visible()
        expect(page.locator("#offline")).to_contain_text("Is python cli.py serve still running?")
        with running_server(random_model(context=512), port=server.port):
            expect(page.locator("#offline")).to_be_hidden()
            page.locator(".error").get_by_role("button", name="Try again").click()
            expect(page.locator(".stats")).to_be_visible()
            expect(page.locator(".error")).to_have_count(0)


def test_settings_are_sent_and_stored(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Max tokens").fill("7")
    page.get_by_label("System message").fill("Be brief.")
    page.get_by_role("button", name="Done").click()
    page.reload()
    page.get_by_label("Your message").fill("Hello")
    with page.expect_request(re.compile("chat/completions")) as request:
        page.keyboard.press("Enter")
    sent = request.value.post_data_json
    assert (sent["temperature"], sent["max_tokens"]) == (0, 7)
    assert "top_p" not in sent
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    expect(page.locator(".stats")).to_contain_text("7 tokens")
    expect(page.locator(".from-assistant .notice")).to_contain_text("Cut off")


def test_note_about_dropped_messages(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_answer("x" * 150, monkeypatch)
    for number in range(3):
        ask(page, "y" * 60)
        expect(page.locator(".stats")).to_have_count(number + 1)
    expect(page.locator(".from-assistant .notice")).to_contain_text("The oldest 2 messages were left out")


@pytest.mark.parametrize(("turns", "length", "sent"), [(600, 1, 499), (12, 100_000, 5)])
def test_very_long_conversation_is_truncated(turns: int, length: int, sent: int, page: Page) -> None:
    """The server accepts 1,000 messages and 1 MiB. The page sends the end of longer conversations."""
    page.evaluate(
        """([turns, length]) => {
            const turn = [{role: "user", content: "q".repeat(length)}, {role: "assistant", content: "a"}];
            sessionStorage.setItem("nanochat.messages", JSON.stringify(Array(turns).fill(turn).flat()));
        }""",
        [turns, length],
    )
    page.reload()
    with page.expect_request(re.compile("chat/completions")) as request:
        ask(page, "Hello")
    roles = [message["role"] for message in request.value.post_data_json["messages"]]
    assert (len(roles), roles[0]) == (sent, "user")
    expect(page.locator(".stats")).to_be_visible()
    note = page.get_by_text(re.compile(r"The oldest \d+ messages were left out"))
    number = int(re.findall(r"\d+", note.inner_text())[0])
    assert 2 * turns + 1 - sent < number <= 2 * turns  # those not sent, and more that the server dropped


def test_api_key_is_requested_and_stored(browser: Browser) -> None:
    with running_server(random_model(), api_key="secret") as server, browser.new_context() as context:
        page = context.new_page()
        page.goto(server.url)
        for wrong in ("secrets", "secr\N{HORIZONTAL ELLIPSIS}t"):
            page.get_by_label("API key").fill(wrong)
            with page.expect_response(re.compile("/v1/models")) as answer:
                page.get_by_label("API key").press("Enter")
            assert answer.value.status == 401
            expect(page.get_by_role("dialog")).to_be_visible()
        page.get_by_label("API key").fill("secret")
        page.get_by_role("button", name="Done").click()
        expect(page.locator(".suggestion").first).to_be_visible()
        page.reload()
        ask(page, "Hello")
        expect(page.locator(".stats")).to_be_visible()


def test_base_model_continues_a_text(browser: Browser) -> None:
    with running_server(random_model(is_chat=False), per_minute=0) as server, browser.new_context() as context:
        page = opened(context.new_page(), server.url)
        expect(page.locator(".explanation")).to_contain_text("does not answer questions")
        with page.expect_request(re.compile("/v1/completions")) as request:
            ask(page, "Once upon ")
        assert request.value.post_data_json["prompt"] == "Once upon "
        expect(page.locator(".stats")).to_be_visible()


def test_theme_and_narrow_screen(browser: Browser, server: ServerThread) -> None:
    with browser.new_context(color_scheme="dark", viewport={"width": 340, "height": 640}) as context:
        page = opened(context.new_page(), server.url)
        background = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(background)
        page.get_by_role("button", name="Switch between light and dark").click()
        light = page.evaluate(background)
        assert light != dark
        page.reload()
        assert page.evaluate(background) == light
        ask(page, "word " * 30 + "x" * 150)
        expect(page.locator(".stats")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 340
        assert page.evaluate("document.getElementById('scroller').scrollWidth") <= 340


def test_keyboard_and_accessible_names(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_answer("Yes.", monkeypatch)
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.press("Shift+Tab")  # from the text field to the last suggestion
    page.keyboard.press("Enter")
    expect(page.locator(".from-assistant .text")).to_have_text("Yes.")
    expect(page.get_by_role("status")).to_have_text("Yes.")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Try again")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your message")).to_be_focused()  # the focused button has been removed
    expect(page.locator(".from-assistant .text")).to_have_text("Yes.")
    nameless = "[...document.querySelectorAll('button, input, textarea')].filter(e => !e.textContent.trim() && "
    nameless += "!e.ariaLabel && !e.labels?.length).map(e => e.outerHTML)"
    assert page.evaluate(nameless) == []
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Settings")).to_be_focused()
