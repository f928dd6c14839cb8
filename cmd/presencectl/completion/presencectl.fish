# Completion of presencectl for fish. Nothing of the line is expanded or run, as with
# that for bash:
#   presencectl completion fish > ~/.config/fish/completions/presencectl.fish
function __presencectl_complete
    set -l program @PROGRAM@
    test -x $program; or set program presencectl
    set -l asked (commandline -opc)
    set -e asked[1]
    set -l cur (commandline -ct)
    set -l answer ($program __complete $asked "$cur" 2>/dev/null)
    for line in $answer[2..]
        string trim --right --chars \t -- $line
    end
    test "$answer[1]" = files; and __fish_complete_path "$cur"
end

complete -c presencectl -e
complete -c presencectl -f -a '(__presencectl_complete)'
