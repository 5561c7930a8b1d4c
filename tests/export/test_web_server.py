"""The server of the demo page; `web/test_page.py` is for the page itself."""

import http.client
import json
import sys
import threading
import webbrowser
import zipfile
from urllib.parse import quote

import pytest

from keras_lrseg import cli
from keras_lrseg.export import web_server
from keras_lrseg.export.web_server import make_server
from tests.export.graphs import map_file

PAGE = ("index.html", "page.js", "palette.js", "segmenter.js", "style.css")
ROOT = web_server._PACKAGE.parent


@pytest.fixture
def files(tmp_path):
    """Stand-ins for a model, MediaPipe's runtime and pictures, in one folder."""
    (tmp_path / "land.tflite").write_bytes(map_file())
    wasm = tmp_path / "runtime" / "wasm"
    wasm.mkdir(parents=True)
    (wasm / "vision.wasm").write_bytes(b"\0asm")
    (wasm / "vision.js").write_text("the loader")
    (wasm.parent / "vision_bundle.mjs").write_text("the bundle")
    (wasm.parent / "package.json").write_text("{}")
    (tmp_path / "pictures").mkdir()
    for name in ("a b.PNG", "ä.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / "pictures" / name).write_bytes(name.encode())
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


@pytest.fixture
def get(files):
    """A function from a path to (status, type, body), as the running server answers."""
    server = make_server(
        files / "land.tflite",
        port=0,
        samples=files / "pictures",
        tasks_vision=files / "runtime",
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def request(path, method="GET"):
        connection = http.client.HTTPConnection(*server.server_address, timeout=10)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()

    with server:
        yield request
        server.shutdown()


@pytest.mark.parametrize("name", PAGE)
def test_page_is_served(name, get):
    status, _, body = get(f"/{name}")
    assert status == 200
    assert body == (ROOT / "keras_lrseg" / "web" / name).read_bytes()


def test_root_is_the_page(get):
    assert get("/") == get("/index.html") == get("/?again")


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/model.tflite", "application/octet-stream", None),
        ("/tasks-vision/wasm/vision.wasm", "application/wasm", b"\0asm"),
        ("/tasks-vision/wasm/vision.js", "text/javascript", b"the loader"),
        ("/tasks-vision/vision_bundle.mjs", "text/javascript", b"the bundle"),
        ("/samples/a%20b.PNG", "image/png", b"a b.PNG"),
        ("/", "text/html", None),
        ("/page.js", "text/javascript", None),
        ("/style.css", "text/css", None),
        ("/demo.json", "application/json", None),
    ],
)
def test_each_kind_of_file_has_its_type(path, kind, body, get):
    status, received, content = get(path)
    assert status == 200
    assert received.partition(";")[0] == kind
    assert body in (None, content)


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/../secret.txt",
        "/samples/../secret.txt",
        "/samples/..%2fsecret.txt",
        "/samples/%2e%2e/secret.txt",
        "/samples//etc/passwd",
        "//etc/passwd",
        "/tasks-vision/wasm/../../secret.txt",
        "/tasks-vision/package.json",
        "/samples/",
        "/samples/notes.txt",
        "/samples/.hidden.png",
        "/land.tflite",
        "secret.txt",
        "/%00",
        "/\\..\\secret.txt",
    ],
)
def test_nothing_else_is_served(path, get):
    status, _, body = get(path)
    assert status == 404
    assert b"secret" not in body.replace(path.encode(), b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_sent(method, get):
    assert get("/model.tflite", method)[0] == 501


def test_model_exported_anew_is_served(get, files):
    assert get("/model.tflite")[2] == map_file()
    (files / "land.tflite").write_bytes(b"new")
    assert get("/model.tflite")[2] == b"new"
    (files / "land.tflite").unlink()
    assert get("/model.tflite")[0] == 404


def test_page_is_told_the_models_name_and_the_samples(get):
    told = json.loads(get("/demo.json")[2])
    samples = [f"samples/{quote(name)}" for name in ("a b.PNG", "ä.jpg")]
    assert told == {"model": "land.tflite", "samples": samples}
    assert [get(f"/{sample}")[0] for sample in samples] == [200, 200]


def test_page_is_told_the_colours_that_the_model_carries(files):
    with zipfile.ZipFile(files / "land.tflite", "a") as archive:
        archive.writestr("palette.txt", "#1f5fbf\n#2e8b3d\n")
    told = json.loads(web_server._describe(files / "land.tflite", []))
    assert told["colours"] == ["#1f5fbf", "#2e8b3d"]


def test_samples_are_tiles_of_the_demo_data_by_default(files):
    model, runtime = files / "land.tflite", files / "runtime"
    with make_server(model, port=0, tasks_vision=runtime) as server:
        told = json.loads(server.files["/demo.json"])
    assert 4 <= len(told["samples"]) <= web_server.MAX_SAMPLES
    assert all(f"/{sample}" in server.files for sample in told["samples"])


def test_samples_are_few_and_from_all_over_a_large_folder(files):
    for i in range(100):
        (files / "pictures" / f"{i:02}.bmp").touch()
    names = [path.name for path in web_server._pictures(files / "pictures")]
    assert 4 <= len(names) <= web_server.MAX_SAMPLES
    assert names[0] == "00.bmp"
    assert names[-1] > "80.bmp"


def test_runtime_is_found_in_a_folder_above_as_node_does(files, monkeypatch):
    package = files / "node_modules" / "@mediapipe" / "tasks-vision"
    package.parent.mkdir(parents=True)
    (files / "runtime").rename(package)
    monkeypatch.chdir(files / "pictures")
    assert web_server._find_runtime(None) == package


def test_version_of_the_runtime_is_the_one_that_npm_installs_in_a_checkout():
    pinned = json.loads((ROOT / "web" / "package.json").read_text())
    assert pinned["dependencies"] == {
        "@mediapipe/tasks-vision": web_server.TASKS_VISION
    }


# --- The command ----------------------------------------------------------------------


@pytest.fixture
def command(files):
    model, runtime = files / "land.tflite", files / "runtime"
    return ["demo-web", str(model), "--port", "0", "--tasks-vision", str(runtime)]


def test_command_says_the_address_and_opens_it_until_ctrl_c(
    command, monkeypatch, capsys
):
    def interrupt(server):
        raise KeyboardInterrupt

    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(web_server._Server, "serve_forever", interrupt)
    assert cli.main(command) == 0
    (address,) = opened
    assert address.startswith("http://127.0.0.1:")
    assert capsys.readouterr().out.startswith(f"{address} shows ")
    assert cli.main([*command, "--no-browser"]) == 0
    assert len(opened) == 1


def refusal(command, capsys):
    """What the command says when it refuses, one line on stderr."""
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("keras-lrseg demo-web: ")
    assert err.count("\n") == 1
    return err


def test_missing_model_is_named(command, capsys, files):
    (files / "land.tflite").unlink()
    assert f"No such file: {files / 'land.tflite'}" in refusal(command, capsys)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\3\4 a Keras file"])
def test_file_that_is_no_tflite_is_refused(content, command, capsys, files):
    (files / "land.tflite").write_bytes(content)
    message = refusal(command, capsys)
    assert f"Not a TFLite file: {files / 'land.tflite'}" in message
    assert "keras-lrseg export" in message


@pytest.mark.parametrize(
    "result", [("uint8", (1, 4, 6)), ("int32", (1,)), ("float32", (1, 3))]
)
def test_file_that_gives_no_confidences_is_refused(result, command, capsys, files):
    (files / "land.tflite").write_bytes(map_file(*result))
    message = refusal(command, capsys)
    assert f"{files / 'land.tflite'}, which gives {result[1]}" in message
    assert "--output confidence" in message


def test_cut_tflite_file_is_refused(command, capsys, files):
    (files / "land.tflite").write_bytes(map_file()[:-200])
    assert "land.tflite is damaged" in refusal(command, capsys)


def test_without_litert_any_tflite_file_is_served(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    (files / "land.tflite").write_bytes(map_file("uint8", (1, 4, 6)))
    make_server(
        files / "land.tflite", port=0, tasks_vision=files / "runtime"
    ).server_close()


def test_missing_runtime_is_named_with_the_command(command, capsys, files):
    (files / "runtime" / "vision_bundle.mjs").unlink()
    message = refusal(command, capsys)
    assert str(files / "runtime") in message
    assert "Type: npm ci --prefix" in message


def test_missing_runtime_of_an_installed_package(files, monkeypatch):
    monkeypatch.setattr(web_server, "_CHECKOUT_WEB", files / "absent")
    monkeypatch.chdir(files)
    version = web_server.TASKS_VISION
    with pytest.raises(
        FileNotFoundError, match=f"npm install @mediapipe/tasks-vision@{version}"
    ):
        web_server._find_runtime(None)


def test_port_in_use_is_named_with_the_remedy(command, capsys, files):
    model, runtime = files / "land.tflite", files / "runtime"
    with make_server(model, port=0, tasks_vision=runtime) as server:
        port = str(server.server_address[1])
        message = refusal([*command, "--port", port], capsys)
    assert f"port {port}" in message
    assert "--port" in message


def test_address_of_another_machine_is_refused(command, capsys):
    message = refusal([*command, "--host", "192.0.2.1"], capsys)
    assert "Cannot listen at 192.0.2.1" in message


@pytest.mark.parametrize(
    ("samples", "message"),
    [("absent", "No such folder"), ("runtime", "Found no file of .jpg")],
)
def test_samples_that_are_none_are_named(samples, message, command, capsys, files):
    said = refusal([*command, "--samples", str(files / samples)], capsys)
    assert message in said
    assert str(files / samples) in said


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_port_that_is_none_is_refused(port, command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*command, f"--port={port}"])
    assert end.value.code == 2
    assert port in capsys.readouterr().err
