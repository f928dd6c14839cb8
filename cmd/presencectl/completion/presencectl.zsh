#compdef presencectl
# Completion of presencectl for zsh: source <(presencectl completion zsh), after
# compinit. Nothing of the line is expanded or run, as with that for bash.
_presencectl() {
  local program=@PROGRAM@ line word text
  local -a answer found
  [[ -x $program ]] || program=presencectl
  answer=("${(@f)$("$program" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for line in "${(@)answer[2,-1]}"; do
    word=${line%%$'\t'*} text=${line#*$'\t'}
    found+=("${word//:/\\:}${text:+:$text}")
  done
  (( ${#found} )) && _describe presencectl found
  if [[ ${answer[1]} == files ]]; then
    _files
  fi
}

if [[ ${funcstack[1]} == _presencectl ]]; then
  _presencectl "$@"
else
  compdef _presencectl presencectl
fi
