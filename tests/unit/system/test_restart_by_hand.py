"""What a person types to restart a service, by what keeps it and who types."""

import pytest

from opskit.records import replace
from opskit.system.services import Service, restart_by_hand

OLLAMA = Service("systemd", "ollama.service", "system", "ollama")
AGENT = Service("launchd", "org.me.mlx", "user", "ann")
DAEMON = Service("launchd", "org.me.mlx", "system", "root")
MLX = Service("systemd", "mlx.service", "user", "ann")
APP = Service("app", "Ollama", "user", "ann")


@pytest.mark.parametrize(
    ("service", "uid", "typed"),
    [
        (OLLAMA, 1000, "`sudo systemctl restart ollama.service`"),
        (OLLAMA, 0, "`systemctl restart ollama.service`"),
        (MLX, 1000, "`systemctl --user restart mlx.service`"),
        (replace(MLX, user="bob"), 1000, "`systemctl --user restart mlx.service` as bob"),
        (AGENT, 501, "`launchctl kickstart -k gui/501/org.me.mlx`"),
        (DAEMON, 501, "`sudo launchctl kickstart -k system/org.me.mlx`"),
        (Service("brew", "ollama", "user", "ann"), 501, "`brew services restart ollama`"),
        (APP, 501, "`osascript -e 'quit app \"Ollama\"'`, then `open -ga Ollama`"),
        (Service("container", "atra ollama", "system"), 1000, "`docker restart 'atra ollama'`"),
        (Service("stray", None, "user", "ann"), 1000, None),
    ],
)
def test_the_command_is_that_of_the_keeper(service: Service, uid: int, typed: str | None):
    """Root's services need sudo, those of another user that user; what nothing keeps has no command."""
    assert restart_by_hand(service, user="ann", uid=uid) == typed
