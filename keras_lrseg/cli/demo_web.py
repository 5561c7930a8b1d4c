"""`keras-lrseg demo-web`: a TFLite file at work in the browser."""

import argparse
import contextlib
import webbrowser

SUMMARY = "a TFLite file at work in the browser"
EXAMPLE = "keras-lrseg demo-web street_confidence.tflite --samples street/images"


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL.tflite")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=port, default=8000, help="0: any free one")
    parser.add_argument(
        "--samples", metavar="DIR", help="pictures to offer (default: demo tiles)"
    )
    parser.add_argument(
        "--tasks-vision",
        metavar="DIR",
        help="of the npm package (default: node_modules here or above)",
    )
    parser.add_argument("--no-browser", action="store_true", help="only serve the page")


def run(arguments):
    from keras_lrseg.export.web_server import make_server

    server = make_server(
        arguments.model,
        arguments.host,
        arguments.port,
        arguments.samples,
        arguments.tasks_vision,
    )
    with server, contextlib.suppress(KeyboardInterrupt):
        address = "http://{}:{}/".format(*server.server_address)
        print(f"{address} shows {arguments.model}; Ctrl-C ends it.", flush=True)
        if not arguments.no_browser:
            webbrowser.open(address)
        server.serve_forever()


def port(text):
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {value}")
    return value
