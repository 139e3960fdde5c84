"""Models are fetched whole and right, or not at all, from servers that behave as servers do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest
import yaml
from aiohttp import web
from model_mirror import GGUF, PATH, Deed, Mirror, a_model, mirror

from xiaozhi_hub.core.config import ModelsConfig, load_config
from xiaozhi_hub.core.secret import Secret
from xiaozhi_hub.errors import ConfigErrors, HubError
from xiaozhi_hub.models.catalogue import CatalogueModel, ModelFile, Source
from xiaozhi_hub.models.checks import PIECE_BYTES, digests_of
from xiaozhi_hub.models.download import download
from xiaozhi_hub.models.fetch import Stamina
from xiaozhi_hub.models.progress import Silence
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.models.sources import address_of
from xiaozhi_hub.models.stock import growing, origin_of

STAMINA = Stamina(connect=2, silence=0.3, pauses=(0, 0, 0))


class Told(Silence):
    """Remembers what people would have seen."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done = 0

    def advance(self, done: int) -> None:
        self.done = done

    def note(self, text: str) -> None:
        self.notes.append(text)


class Place(NamedTuple):
    shelf: ModelShelf
    mirror: Mirror
    told: Told

    async def get(self, model: CatalogueModel | None = None, **settings: Any) -> InstalledModel:
        config = ModelsConfig(**{"mirror": self.mirror.url, **settings})
        return await download(model or a_model(), self.shelf, config, self.told, STAMINA)

    @property
    def part(self) -> Path:
        return self.shelf.folder / "llama_cpp" / "tiny.part" / "tiny.gguf"

    def left(self) -> list[str]:
        """The files of the model in the shelf, finished or not."""
        return sorted(path.name for path in self.shelf.folder.rglob("*") if path.is_file() and path.name != "lock")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with mirror({PATH: GGUF}) as served:
        yield Place(ModelShelf(tmp_path / "models"), served, Told())


# -- well -----------------------------------------------------------------------------------------------------------


async def test_a_model_comes_whole_and_is_found_on_the_shelf(place: Place) -> None:
    installed = await place.get()
    assert place.shelf.find("llama_cpp", "tiny") == installed
    assert installed.file("*.gguf").read_bytes() == GGUF
    origin = origin_of(installed)
    assert origin is not None and origin.source == "people/tiny@main"
    assert place.left() == ["origin.yaml", "tiny.gguf"]


async def test_a_broken_connection_is_taken_up_where_it_ended(place: Place) -> None:
    place.mirror.deeds = [Deed(drop_after=300_000), Deed(drop_after=200_000)]
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF
    asked = [(began, condition) for _, began, condition in place.mirror.asked]
    assert asked == [("", ""), ("bytes=300000-", '"one"'), ("bytes=500000-", '"one"')]
    assert len(place.told.notes) == 2


async def test_a_download_that_was_stopped_goes_on_at_the_next_command(place: Place) -> None:
    place.mirror.deeds = [Deed(stall_after=400_000)]
    task = asyncio.ensure_future(download(a_model(), place.shelf, ModelsConfig(place.mirror.url), place.told))
    async with asyncio.timeout(20):
        while place.told.done < 400_000:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not place.shelf.installed("llama_cpp"), "half a model must not be found"
    await place.get()
    assert place.mirror.asked[-1][1] == "bytes=400000-"


async def test_many_drops_are_borne_as_long_as_each_try_brings_something(place: Place) -> None:
    place.mirror.deeds = [Deed(drop_after=100_000)] * 8
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF


async def test_a_server_that_ignores_range_sends_all_again(place: Place) -> None:
    place.mirror.deeds = [Deed(drop_after=300_000), Deed(ignores_range=True)]
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF


async def test_a_file_that_changed_meanwhile_is_fetched_anew(place: Place) -> None:
    place.mirror.deeds = [Deed(drop_after=300_000)]
    other = GGUF[:8] + bytes(reversed(GGUF[8:]))
    model = a_model(other)

    with pytest.raises(HubError):
        await download(model, place.shelf, ModelsConfig(place.mirror.url), place.told, replace(STAMINA, pauses=()))
    place.mirror.files[PATH], place.mirror.tag = other, '"two"'
    assert (await place.get(model)).file("*.gguf").read_bytes() == other
    assert place.mirror.asked[-1][2] == '"one"', "the server must be asked for the same version"


async def test_what_was_spoiled_on_the_disk_is_noticed_and_fetched_anew(place: Place) -> None:
    with growing(place.shelf, "llama_cpp", "tiny"):
        place.part.write_bytes(b"x" * 1000)
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF
    assert [began for _, began, _ in place.mirror.asked] == ["bytes=1000-", ""]


async def test_a_finished_file_of_an_earlier_try_is_not_fetched_again(place: Place) -> None:
    with growing(place.shelf, "llama_cpp", "tiny"):
        place.part.write_bytes(GGUF)
    await place.get()
    assert place.mirror.asked == []


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_a_server_in_trouble_is_asked_again(place: Place, status: int) -> None:
    place.mirror.deeds = [Deed(status=status), Deed(status=status)]
    assert (await place.get()).name == "tiny"
    assert len(place.mirror.asked) == 3


async def test_a_silent_server_is_left_and_asked_again(place: Place) -> None:
    place.mirror.deeds = [Deed(stall_after=100_000)]
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF
    assert "silent" in place.told.notes[0]
    assert place.mirror.asked[1][1] == "bytes=100000-"


async def test_a_redirect_is_followed(place: Place) -> None:
    place.mirror.files["/elsewhere"] = GGUF
    place.mirror.deeds = [Deed(location="/elsewhere")]
    assert (await place.get()).name == "tiny"
    assert [path for path, _, _ in place.mirror.asked] == [PATH, "/elsewhere"]


async def test_a_mirror_with_its_own_layout_is_addressed_by_its_template(place: Place) -> None:
    place.mirror.files["/copy/people/tiny/tiny.gguf"] = GGUF
    assert await place.get(mirror=f"{place.mirror.url}/copy/{{repository}}/{{path}}")


async def test_a_proxy_is_used_where_one_is_set(place: Place) -> None:
    """The mirror takes the part of the proxy: the name in the address is known to nobody else."""
    place.mirror.files[PATH] = GGUF
    installed = await place.get(mirror="http://models.invalid", proxy=Secret(place.mirror.url))
    assert installed.file("*.gguf").read_bytes() == GGUF


async def test_a_proxy_of_the_environment_is_used_with_or_without_its_kind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", place.mirror.url.removeprefix("http://"))
    assert await place.get(mirror="http://models.invalid")


# -- badly ----------------------------------------------------------------------------------------------------------


async def refused(place: Place, model: CatalogueModel | None = None, **settings: Any) -> HubError:
    """The error of a download that must fail; nothing half is left under a name."""
    with pytest.raises(HubError) as caught:
        await place.get(model, **settings)
    assert not place.shelf.installed("llama_cpp")
    return caught.value


async def test_wrong_bytes_are_thrown_away_and_told(place: Place) -> None:
    place.mirror.files[PATH] = GGUF[:-1] + b"?"
    error = await refused(place)
    assert error.code == "download-wrong" and "sha256" in error.message and "mirror" in error.hint
    assert place.left() == []


async def test_a_file_of_another_size_is_not_even_begun(place: Place) -> None:
    place.mirror.files[PATH] = GGUF + b"more"
    error = await refused(place)
    assert str(len(GGUF) + 4) in error.message and str(len(GGUF)) in error.message
    assert place.left() == []


async def test_a_server_that_sends_more_than_it_may_is_cut_off(place: Place) -> None:
    place.mirror.deeds = [Deed(body=GGUF * 5, chunked=True)]
    error = await refused(place)
    assert "more than" in error.message
    assert sum(path.stat().st_size for path in place.shelf.folder.rglob("*")) <= len(GGUF) + 100_000


async def test_a_server_that_stops_early_and_calls_it_the_end_is_not_believed(place: Place) -> None:
    place.mirror.deeds = [Deed(body=GGUF[:5000], chunked=True)]
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF
    assert "after 5000 of" in place.told.notes[0]


async def test_a_server_that_promises_more_than_it_sends_is_asked_for_the_rest_and_given_up_at_last(
    place: Place,
) -> None:
    place.mirror.deeds = [Deed(drop_after=0)] * 10
    error = await refused(place)
    assert error.code == "download-broken" and "4 times in a row" in error.message
    assert "again to go on" in error.hint


async def test_another_part_than_was_asked_for_is_not_pieced_together(place: Place) -> None:
    place.mirror.deeds = [Deed(drop_after=300_000), Deed(range_from=100)]
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF
    assert place.mirror.asked[-1][1] == ""


async def test_a_file_that_is_not_there_names_the_setting(place: Place) -> None:
    place.mirror.files.clear()
    error = await refused(place)
    assert error.code == "download-missing" and PATH in error.message and "models: mirror:" in error.hint
    assert len(place.mirror.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_shows_the_way_by_hand(place: Place, status: int) -> None:
    place.mirror.deeds = [Deed(status=status)]
    error = await refused(place)
    assert str(status) in error.message and "models import" in error.hint


async def test_a_login_page_in_between_is_not_taken_for_a_model(place: Place) -> None:
    place.mirror.deeds = [Deed(body=b"<html>", headers=(("Content-Type", "text/html"),))]
    error = await refused(place, a_model(checksum=False, size=False))
    assert "web page" in error.message


async def test_what_is_no_model_by_its_form_is_refused_even_where_no_checksum_is_known(place: Place) -> None:
    place.mirror.files[PATH] = b"MZ" + bytes(1000)
    error = await refused(place, a_model(checksum=False, size=False))
    assert "no GGUF file" in error.message and place.left() == []


async def test_a_file_of_unknown_size_may_not_be_large(place: Place) -> None:
    place.mirror.files[PATH] = GGUF + bytes(2**20)
    error = await refused(place, a_model(checksum=False, size=False))
    assert "has another tiny.gguf" in error.message


async def test_redirects_in_a_circle_end(place: Place) -> None:
    place.mirror.deeds = [Deed(location=PATH)] * 20
    error = await refused(place)
    assert "on and on" in error.message and len(place.mirror.asked) < 10


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/tiny.gguf", "file:///etc/passwd"])
async def test_a_redirect_out_of_http_is_not_followed(place: Place, location: str) -> None:
    place.mirror.deeds = [Deed(location=location)]
    assert (await refused(place)).code == "download-insecure"


async def test_a_redirect_from_https_to_http_is_not_followed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real TLS server, whose certificate this process trusts."""
    certificate, server_side = certified(tmp_path)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting(certificate))
    app = web.Application()

    async def onward(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": place.mirror.url + PATH})

    app.router.add_get("/{path:.*}", onward)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_side).start()
        error = await refused(place, mirror=f"https://localhost:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
    assert error.code == "download-insecure" and "https to http" in error.message
    assert place.mirror.asked == []


async def test_a_server_that_cannot_prove_who_it_is_gets_no_chance(place: Place, tmp_path: Path) -> None:
    _, server_side = certified(tmp_path)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_side).start()
        error = await refused(place, mirror=f"https://localhost:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
    assert error.code == "download-insecure" and "prove" in error.message


async def test_without_a_mirror_nothing_is_asked_and_the_setting_is_named(place: Place) -> None:
    error = await refused(place, mirror="")
    assert error.code == "no-mirror" and "models: mirror:" in error.hint and "models import" in error.hint
    assert not place.shelf.folder.exists()


async def test_nobody_there_is_told_with_what_to_look_at(place: Place, unused_tcp_port: int) -> None:
    error = await refused(place, mirror=f"http://127.0.0.1:{unused_tcp_port}")
    assert "cannot be reached" in error.message and "network" in error.hint


async def test_the_password_of_a_proxy_is_never_shown(place: Place, unused_tcp_port: int) -> None:
    error = await refused(place, proxy=Secret(f"http://me:hunter2@127.0.0.1:{unused_tcp_port}"))
    assert "proxy" in error.message
    assert "hunter2" not in str(error) + "".join(place.told.notes)


async def test_a_proxy_that_wants_a_login_for_https_is_told_as_that(place: Place) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        error = await refused(
            place, mirror="https://models.invalid", proxy=Secret(f"http://me:hunter2@127.0.0.1:{port}")
        )
    assert error.code == "download-refused" and "proxy" in error.message and "407" in error.message
    assert "hunter2" not in str(error) and not place.told.notes


async def test_a_proxy_of_another_kind_is_told_as_that(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5://me:hunter2@127.0.0.1:1080")
    error = await refused(place, mirror="http://models.invalid")
    assert "socks5" in error.message and "models: proxy:" in error.hint
    assert "hunter2" not in str(error)


async def test_a_server_that_has_less_of_the_file_is_not_asked_for_ever(place: Place) -> None:
    """It says no length, and refuses the rest: each time what has come is thrown away, and comes once more."""
    place.mirror.deeds = [Deed(body=GGUF[:300_000], chunked=True)] * 50
    error = await refused(place)
    assert error.code == "download-broken"
    assert place.mirror.deeds, "it must be given up"


@pytest.mark.parametrize(
    "deed",
    [
        Deed(status=503, headers=(("Retry-After", "²"),)),
        Deed(location="http://[models"),
        Deed(location="http://models:99999/"),
        Deed(range_from=0, headers=(("Content-Range", f"bytes 0-1/{'9' * 5000}"),)),
    ],
)
async def test_a_head_that_makes_no_sense_is_a_failure_like_others(place: Place, deed: Deed) -> None:
    place.mirror.deeds = [deed]
    assert (await place.get()).file("*.gguf").read_bytes() == GGUF


# -- the disk -------------------------------------------------------------------------------------------------------


async def test_a_disk_without_room_is_told_before_anything_is_fetched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place.shelf.folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    error = await refused(place)
    assert error.code == "disk-full" and "10 MB" in error.message and "models remove" in error.hint
    assert place.mirror.asked == []


async def test_what_has_come_already_needs_no_room_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with growing(place.shelf, "llama_cpp", "tiny"):
        place.part.write_bytes(GGUF[:-1000])
    usage = shutil.disk_usage(place.shelf.folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200 * 2**20 + 2000))
    assert await place.get()


async def test_a_disk_that_fills_up_meanwhile_is_told_and_what_came_is_kept(place: Place) -> None:
    """/dev/full refuses every byte with the error of a full disk."""
    with growing(place.shelf, "llama_cpp", "tiny"):
        place.part.symlink_to("/dev/full")
    error = await refused(place)
    assert error.code == "disk-full" and "kept" in error.hint


async def test_a_disk_that_fails_before_the_first_byte_is_not_taken_for_the_line(place: Place) -> None:
    with growing(place.shelf, "llama_cpp", "tiny"):
        place.part.with_name("tiny.gguf.resume").mkdir()
    error = await refused(place)
    assert error.code == "disk-failed" and len(place.mirror.asked) == 1


async def test_a_disk_that_does_not_give_back_what_came_is_told(place: Place) -> None:
    with growing(place.shelf, "llama_cpp", "tiny"):
        place.part.mkdir()  # which has a size, and cannot be read
    error = await refused(place, a_model(bytes(place.part.stat().st_size)))
    assert error.code == "disk-failed" and str(place.part) in error.message


class SlowDisk(ThreadPoolExecutor):
    """Tells that something was written only when it is asked to go on."""

    def __init__(self) -> None:
        super().__init__(2)
        self.written, self.go_on = Event(), Event()

    def submit(self, work: Any, /, *args: Any, **keywords: Any) -> Future[Any]:
        def slowly() -> Any:
            result = work(*args, **keywords)
            if isinstance(result, int) and result >= PIECE_BYTES:
                self.written.set()
                self.go_on.wait(20)
            return result

        return super().submit(slowly)


async def test_who_stops_a_download_while_it_is_written_finds_it_whole_and_goes_on(place: Place) -> None:
    data = GGUF * 3
    place.mirror.files[PATH] = data
    disk = SlowDisk()
    asyncio.get_running_loop().set_default_executor(disk)
    task = asyncio.ensure_future(place.get(a_model(data)))
    try:
        async with asyncio.timeout(20):
            while not disk.written.is_set():
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    finally:
        disk.go_on.set()
    assert task.cancelled()
    assert data.startswith(place.part.read_bytes()), "nothing may be written twice"
    kept = place.part.stat().st_size
    await place.get(a_model(data))
    assert [began for _, began, _ in place.mirror.asked][1:] == [f"bytes={kept}-"]


async def test_two_commands_do_not_fetch_the_same_model_at_once(place: Place) -> None:
    with growing(place.shelf, "llama_cpp", "tiny"):
        error = await refused(place)
    assert error.code == "model-busy"
    assert (await place.get()).name == "tiny"


# -- addresses ------------------------------------------------------------------------------------------------------


def test_models_of_a_release_come_from_the_address_for_releases_if_there_is_one() -> None:
    model = replace(a_model(), source=Source("people/words", "v1", kind="release"), files=(ModelFile("a word.onnx"),))
    both = ModelsConfig("https://hub.invalid", "https://forge.invalid")
    assert (
        address_of(both, model, model.files[0])
        == "https://forge.invalid/people/words/releases/download/v1/a%20word.onnx"
    )
    assert address_of(ModelsConfig("https://hub.invalid"), model, model.files[0]).startswith(
        "https://hub.invalid/people"
    )
    with pytest.raises(HubError, match="not set") as caught:
        address_of(ModelsConfig(), model, model.files[0])
    assert "releases:" in caught.value.hint


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("mirror: models.example", "Did you mean https://models.example?"),
        ("mirror: ftp://models.example", "an address such as https://models.example"),
        ("mirror: 'https://me:hunter2@models.example'", "without user and password"),
        ("mirror: 'https://models.example/{repo}/{path}'", "{repository}, {revision} and {path}"),
        ("mirror: 'https://models.example/{repository}'", "{path} among them"),
        ("mirror: https://models.example:99999", "a port up to 65535"),
        ("mirror: 'https://[::1'", "a port up to 65535"),
        ("releases: https://:80", "a port up to 65535"),
        ("proxy: 192.168.1.2:3128", "the address of a proxy"),
        ("proxy: http://192.168.1.2:99999", "the address of a proxy"),
        ("miror: https://models.example", "mirror"),
    ],
)
def test_a_mistake_in_the_settings_is_told(tmp_path: Path, written: str, told: str) -> None:
    (tmp_path / "configuration.yaml").write_text(f"models:\n  {written}\n")
    with pytest.raises(ConfigErrors) as caught:
        load_config(tmp_path)
    assert told in str(caught.value) and "configuration.yaml:2" in str(caught.value)


def test_the_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(
        "models: {mirror: 'https://models.example/', proxy: 'http://me:hunter2@192.168.1.2:3128'}\n"
    )
    settings = load_config(tmp_path).models
    assert settings.mirror == "https://models.example"
    assert settings.proxy.reveal().startswith("http://me:") and "hunter2" not in repr(settings)


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    digests = digests_of(tmp_path / "abc", Silence())
    assert digests.size == 3
    assert digests.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digests.md5 == "900150983cd24fb0d6963f7d28e17f72"


async def test_the_origin_is_written_for_people_too(place: Place) -> None:
    facts = yaml.safe_load(((await place.get()).folder / "origin.yaml").read_text())
    assert facts["licence"] == "Apache-2.0" and facts["files"]["tiny.gguf"]["size"] == len(GGUF)


# -- certificates ---------------------------------------------------------------------------------------------------


def certified(folder: Path) -> tuple[bytes, Any]:
    """A certificate for localhost that it has signed itself, and what a server needs to show it."""
    import datetime
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    written = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "certificate.pem").write_bytes(written)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return written, context


def trusting(certificate: bytes) -> Any:
    import ssl

    return ssl.create_default_context(cadata=certificate.decode())
