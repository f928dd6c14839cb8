#compdef presencectl
# Completion of presencectl for zsh: source <(presencectl completion zsh), after
# compinit. Nothing of the line is expanded or run, as with that for bash.
_presencectl() {
  local program=@PROGRAM@
  local -a asked found
  [[ -x $program ]] || program=presencectl
  asked=("${(@)words[2,CURRENT-1]}")
  [[ ${words[CURRENT]} == -* ]] && asked+=("${words[CURRENT]}")
  found=("${(@f)$("$program" "${(@)asked}" --generate-shell-completion 2>/dev/null)}")
  if [[ -n ${found[1]} ]]; then
    _describe presencectl found
  else
    _files
  fi
}

if [[ ${funcstack[1]} == _presencectl ]]; then
  _presencectl "$@"
else
  compdef _presencectl presencectl
fi
