"""`dtrain completion`, and what a shell gets when it asks."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

from .main import COMPLETION

_SHELLS = ("bash", "zsh", "fish")
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' completion kind value help
    local -a shown=()
    COMPREPLY=()
    for completion in $(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
            %(complete_var)s=bash_complete $1 2>/dev/null); do
        IFS=, read -r kind value help <<< "$completion"
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value"); shown+=("$value${help:+  ($help)}") ;;
        esac
    done
    # Among several the help is shown beside each, and only what they share is typed.
    if [[ ${#COMPREPLY[@]} -gt 1 && $COMP_TYPE == 63 ]]; then COMPREPLY=("${shown[@]}"); fi
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Shows beside each candidate what it is, as the other shells do."""

    source_template = _BASH

    def format_completion(self, item: CompletionItem) -> str:
        """One line of the answer."""
        return f"{item.type},{item.value},{item.help or ''}"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the script that completes commands, options, jobs and workers in a shell.

    \b
    bash: echo 'eval "$(dtrain completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(dtrain completion zsh)"' >> ~/.zshrc
    fish: dtrain completion fish > ~/.config/fish/completions/dtrain.fish
    """
    install()
    kind = get_completion_class(shell)
    assert kind is not None  # click has one for each of these shells  # noqa: S101
    script = kind(context.find_root().command, {}, "dtrain", COMPLETION)
    click.echo(script.source().strip())


def install() -> None:
    """Have click answer bash in our form."""
    add_completion_class(Bash)
