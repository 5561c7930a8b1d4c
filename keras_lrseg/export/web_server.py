"""A page that runs a TFLite file in the browser, served by this machine alone."""

import contextlib
import http.server
import json
import pathlib
import urllib.parse
import zipfile

from keras_lrseg.data.files import IMAGE_SUFFIXES

TASKS_VISION = "1.1.0"  # the version that is tested: web/package.json pins it too
MAX_SAMPLES = 8

_PACKAGE = pathlib.Path(__file__).parents[1]
_PAGE = _PACKAGE / "web"
_DEMO_TILES = _PACKAGE / "data" / "demo" / "validation" / "images"
_CHECKOUT_WEB = _PACKAGE.parent / "web"
_MIME_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
}


def make_server(
    model: str | pathlib.Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    samples: str | pathlib.Path | None = None,
    tasks_vision: str | pathlib.Path | None = None,
) -> http.server.ThreadingHTTPServer:
    """A server of the demo page, ready for `serve_forever()`.

    Args:
        model: a TFLite file of a segmenter that gives confidences or logits.
        host: the address to listen at; "0.0.0.0" lets other machines in.
        port: 0 for any free one; `server_address` then tells which.
        samples: folder of pictures to offer; None for tiles of the demo data.
        tasks_vision: folder of the npm package `@mediapipe/tasks-vision`; None to look
            for it as Node does, in node_modules here and in the folders above.

    Raises:
        ValueError: if the model is not a TFLite file or gives labels or a picture's
            class, or there is no sample.
        OSError: if a file is missing or the port is taken.
    """
    model = pathlib.Path(model)
    _check_model(model)
    pictures = _pictures(pathlib.Path(samples or _DEMO_TILES))
    runtime = _find_runtime(tasks_vision)
    files = {f"/{path.name}": path for path in _PAGE.iterdir() if path.is_file()}
    files["/"] = files["/index.html"]
    files["/model.tflite"] = model
    files |= {f"/samples/{path.name}": path for path in pictures}
    files |= {
        f"/tasks-vision/{path.relative_to(runtime).as_posix()}": path
        for path in (runtime / "vision_bundle.mjs", *(runtime / "wasm").iterdir())
    }
    files["/demo.json"] = _describe(model, pictures)
    try:
        return _Server((host, port), files)
    except OSError as error:
        raise OSError(
            f"Cannot listen at {host}, port {port}: {error.strerror}. Choose another "
            "with --port; 0 takes any free one."
        ) from error


class _Server(http.server.ThreadingHTTPServer):
    """Serves the files of a table, so that no address can lead to any other."""

    daemon_threads = True

    def __init__(self, address, files):
        super().__init__(address, _Handler)
        self.files = files


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        try:
            content = self.server.files[path]
            if isinstance(content, pathlib.Path):
                path, content = content.name, content.read_bytes()
        except (KeyError, OSError):
            self.send_error(404)
            return
        suffix = pathlib.PurePosixPath(path).suffix.lower()
        self.send_response(200)
        self.send_header(
            "Content-Type", _MIME_TYPES.get(suffix, "application/octet-stream")
        )
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")  # the model may be exported anew
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the page was closed meanwhile
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Stay silent: what fails is said in the page."""


def _check_model(path):
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    with path.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise ValueError(
                f"Not a TFLite file: {path}. Make one with keras-lrseg export "
                "--to tflite --output confidence."
            )
    with contextlib.suppress(ModuleNotFoundError):  # then the page says it, later
        _check_outputs(path)


def _check_outputs(path):
    from ai_edge_litert import schema_py_generated as schema

    try:
        graph = schema.Model.GetRootAs(path.read_bytes()).Subgraphs(0)
        outputs = [graph.Tensors(i) for i in graph.OutputsAsNumpy()]
        shapes = [tuple(map(int, tensor.ShapeAsNumpy())) for tensor in outputs]
    except Exception as error:  # flatbuffers raises whatever comes of it
        raise ValueError(
            f"{path} is damaged: not a whole TFLite file. Is the download or copy "
            "complete?"
        ) from error
    if all(len(shape) != 4 for shape in shapes):
        raise ValueError(
            "The page shows maps of confidence, (1, h, w, classes). Received: "
            f"{path}, which gives {', '.join(map(str, shapes))}: labels, or the "
            "classes of whole pictures. Export a segmenter with --output confidence."
        )


def _pictures(folder):
    """Up to MAX_SAMPLES pictures from all over a folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder: {folder}")
    pictures = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not pictures:
        raise ValueError(f"Found no file of {', '.join(IMAGE_SUFFIXES)} in {folder}")
    return pictures[:: -(-len(pictures) // MAX_SAMPLES)]


def _find_runtime(folder):
    if folder is None:
        here = pathlib.Path.cwd()
        roots = [here, *here.parents, _CHECKOUT_WEB]
        folders = [
            root / "node_modules" / "@mediapipe" / "tasks-vision" for root in roots
        ]
    else:
        folders = [pathlib.Path(folder)]
    for found in folders:
        if (found / "vision_bundle.mjs").is_file() and (found / "wasm").is_dir():
            return found
    if (_CHECKOUT_WEB / "package.json").is_file():
        command = f"npm ci --prefix {_CHECKOUT_WEB}"
    else:
        command = f"npm install @mediapipe/tasks-vision@{TASKS_VISION}"
    where = f" in {folder}" if folder else ""
    raise FileNotFoundError(
        f"MediaPipe's runtime for browsers is not there{where}. Type: {command}"
    )


def _describe(model, pictures):
    """What the page cannot learn from the runtime: names, and the classes' colours."""
    description = {
        "model": model.name,
        "samples": [f"samples/{urllib.parse.quote(path.name)}" for path in pictures],
    }
    # The files that go with a model's metadata are a ZIP archive at its end.
    with contextlib.suppress(zipfile.BadZipFile, KeyError):
        colours = zipfile.ZipFile(model).read("palette.txt").decode().split()
        description["colours"] = colours
    return json.dumps(description).encode()
