"""The command `serve`: the newest reports on localhost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from capacity.cli_settings import say


@click.command("serve")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True,
              help="Port of localhost; 0 for any.")  # fmt: skip
def serve(folder: Path, port: int) -> None:
    """Show the reports and the fleet's table in FOLDER on localhost, read-only, until Ctrl-C.

    The pages are plain files: any web server, or a browser that opens index.html, does as well.

    \b
    Examples:
      capacity serve reports
      capacity serve fleet --port 9000
    """
    from capacity.serving import server

    with server(folder, port) as serving:
        say(f"http://127.0.0.1:{serving.server_address[1]}/ (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            serving.serve_forever()
