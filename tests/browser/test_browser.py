"""The main job in a real browser: ask out loud, hear the evidence, find it again; add a lecture; everything without a network."""

import json
import re
import wave
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
expect.set_options(timeout=40_000)

ANSWER = re.compile("one hundred thousand", re.IGNORECASE)
MOMENT = re.compile(r"(\d\d):(\d\d)–(\d\d):(\d\d)")


def duration_s(sound: "sync_api.Locator") -> float:
    """Return how long a player's sound is, once the browser knows."""
    return sound.evaluate(
        """audio => new Promise(done => {
            if (audio.readyState > 0) done(audio.duration);
            else { audio.onloadedmetadata = () => done(audio.duration); audio.load(); }
        })"""
    )


def play(sound: "sync_api.Locator") -> float:
    """Play a sound to its end at sixteen-fold speed; return how far it came, in seconds."""
    return sound.evaluate(
        """async audio => {
            audio.playbackRate = 16; audio.muted = true;
            const over = new Promise(done => { audio.onended = done; });
            await audio.play(); await over;
            return audio.currentTime;
        }"""
    )


def type_question(page: "sync_api.Page", question: str) -> None:
    page.get_by_label("Or type your question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()


def evidence(page: "sync_api.Page") -> "sync_api.Locator":
    """Return the cards of the moments found."""
    return page.locator("[data-testid=stVerticalBlock]:has(> [data-testid=stElementContainer] .moment)").filter(has=page.locator("audio"))


def test_a_spoken_question_is_answered_and_its_evidence_plays(visit, short_question: Path) -> None:  # type: ignore[no-untyped-def]
    page = visit.page
    visit.go()
    with wave.open(str(short_question)) as file:
        spoken_s = file.getnframes() / file.getframerate()
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(1000 * spoken_s + 700)
    page.get_by_role("button", name="Stop recording").click()

    expect(page.locator("blockquote.answer")).to_contain_text(ANSWER)
    heard = page.get_by_label("I heard (correct it and search again)")
    assert "heart" in heard.input_value()

    card = evidence(page).first
    expect(card).to_contain_text("Short lecture")
    start_min, start_s, end_min, end_s = map(int, MOMENT.search(card.inner_text()).groups())  # type: ignore[union-attr]
    shown_s = 60 * (end_min - start_min) + end_s - start_s
    sound = card.locator("audio")
    length_s = duration_s(sound)
    assert abs(length_s - shown_s) <= 1.0  # both ends are shown in whole seconds
    assert play(sound) == pytest.approx(length_s, abs=0.3)

    # Refreshed, the page shows the same; corrected, it searches again.
    page.reload()
    expect(page.locator("blockquote.answer")).to_contain_text(ANSWER)
    corrected = page.get_by_label("I heard (correct it and search again)")
    corrected.fill("What is bread made of?")
    page.get_by_role("button", name="Search again").click()
    expect(page.locator("blockquote.answer")).to_contain_text(re.compile("flour|water|salt", re.IGNORECASE))
    expect(page.get_by_text("I first heard:")).to_be_visible()


def test_the_history_remembers_across_a_restart_of_the_server(visit) -> None:  # type: ignore[no-untyped-def]
    page = visit.page
    visit.go()
    question = "How many strings does a violin have?"
    type_question(page, question)
    expect(page.locator("blockquote.answer")).to_contain_text(re.compile("strings", re.IGNORECASE))
    visit.app.stop("page")
    visit.app.start_page()
    visit.go("history")
    page.get_by_label("Search questions and answers").fill("violin strings")
    page.get_by_label("Search questions and answers").press("Enter")
    expect(page.get_by_text("One question")).to_be_visible()
    page.get_by_text(question).click()
    expect(page.locator("blockquote.answer")).to_contain_text(re.compile("strings", re.IGNORECASE))
    assert duration_s(evidence(page).first.locator("audio")) > 1.0
    with page.expect_download() as download:
        page.get_by_role("button", name="Export these").click()
        page.get_by_role("button", name="Download JSON").click()
    entries = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["entries"]
    assert [entry["question"]["text"] for entry in entries] == [question]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show on the page Ask").click()
    expect(page.get_by_role("heading", name="Ask your lectures")).to_be_visible()
    expect(page.locator("blockquote.answer")).to_contain_text(re.compile("strings", re.IGNORECASE))
    visit.go("history")
    page.get_by_label("Search questions and answers").fill("violin strings")
    page.get_by_label("Search questions and answers").press("Enter")
    expect(page.get_by_text("One question")).to_be_visible()
    page.get_by_text(question).click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No question matches.")).to_be_visible()


def test_what_the_lectures_do_not_say_is_said_with_the_nearest_moments(visit) -> None:  # type: ignore[no-untyped-def]
    visit.go()
    type_question(visit.page, "Which treaty ended the Thirty Years' War in Westphalia?")
    expect(visit.page.get_by_text("The lectures do not seem to answer this.")).to_be_visible()
    expect(visit.page.get_by_role("heading", name="Nearest moments")).to_be_visible()
    expect(evidence(visit.page).first).to_be_visible()
    expect(visit.page.locator("blockquote.answer")).to_have_count(0)


def test_an_uploaded_file_becomes_searchable_although_the_line_breaks(visit, tmp_path: Path, speak) -> None:  # type: ignore[no-untyped-def]
    page = visit.page
    path = speak(
        "The lighthouse keeper climbs the stairs every evening. He lights the lamp and watches the ships until the morning comes.",
        tmp_path / "lighthouse talk.wav",
    )
    broken: list[str] = []

    def break_once(route: "sync_api.Route") -> None:
        if route.request.method == "PUT" and not broken:
            broken.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/askaloud/uploads/**", break_once)
    visit.go("lectures")
    page.locator("input[type=file]").set_input_files(path)
    expect(page.locator(".files li.done .state")).to_contain_text("has been added")
    assert len(broken) == 1
    card = page.locator("[class*=st-key-lecture-]").filter(has_text="lighthouse talk").first
    expect(card).to_be_visible()
    expect(card.get_by_text("ready")).to_be_visible()
    page.locator(".files").get_by_role("button", name=re.compile("Dismiss")).click()
    expect(page.locator(".files li")).to_have_count(0)
    page.get_by_role("link", name="Ask").click()
    type_question(page, "When does the lighthouse keeper climb the stairs?")
    expect(evidence(page).first).to_contain_text("lighthouse talk")


def test_a_corrupt_file_is_refused_in_a_sentence(visit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "essay.mp3"
    path.write_bytes(b"this is no sound at all " * 5000)
    visit.go("lectures")
    visit.page.locator("input[type=file]").set_input_files(path)
    state = visit.page.locator(".files li.failed .state")
    expect(state).to_contain_text("essay.mp3")
    assert "Traceback" not in state.inner_text()
    assert not [one for one in (visit.app.home / "uploads").iterdir() if one.is_file()]


def test_the_page_ask_is_found_under_its_name_too(visit) -> None:  # type: ignore[no-untyped-def]
    visit.go("ask")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Ask your lectures")
    expect(visit.page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_fits_and_every_control_has_a_name(chromium, running_app, width: int, scheme: str) -> None:  # type: ignore[no-untyped-def]
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    for path in ("", "lectures", "history", "health"):
        page.goto(f"{running_app.address}/{path}")
        page.get_by_role("heading", level=1).wait_for()
        page.get_by_role("link", name="Health").wait_for()
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        expect(page.get_by_test_id("stException")).to_have_count(0)
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, input, a')].filter(one => one.checkVisibility()).filter(one =>
                !(one.innerText?.trim() || one.ariaLabel || one.title || one.labels?.length || one.getAttribute('aria-labelledby')))
                .map(one => one.outerHTML.slice(0, 200))"""
        )
        assert nameless == [], path
    context.close()


def test_the_page_is_served_on_this_machine_only_and_asks_for_nothing(running_app) -> None:  # type: ignore[no-untyped-def]
    import psutil  # noqa: PLC0415  only here

    process = psutil.Process(running_app.processes["page"].pid)
    listening = {one.laddr.ip for one in process.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert "mail" not in running_app.log_path.read_text().casefold()
