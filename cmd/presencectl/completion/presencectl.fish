# Completion of presencectl for fish. Nothing of the line is expanded or run, as with
# that for bash:
#   presencectl completion fish > ~/.config/fish/completions/presencectl.fish
function __presencectl_complete
    set -l program @PROGRAM@
    test -x $program; or set program presencectl
    set -l asked (commandline -opc)
    set -e asked[1]
    set -l cur (commandline -ct)
    string match -q -- '-*' "$cur"; and set -a asked $cur
    for line in ($program $asked --generate-shell-completion 2>/dev/null)
        string replace -r '^([^:]+):' '$1\t' -- $line
    end
end

complete -c presencectl -e
complete -c presencectl -a '(__presencectl_complete)'
