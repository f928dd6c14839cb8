# Completion of presencectl for bash 3.2 or later, which needs nothing else:
#   source <(presencectl completion bash)
#
# The words of the line are given to presencectl as they stand. Nothing in them is
# expanded or run, and what is asked is the presencectl that wrote this, not the first
# word of the line. What is offered is quoted, so that it is one word of the line.
_presencectl() {
  local program=@PROGRAM@ cur=${COMP_WORDS[COMP_CWORD]} files line token quoted width=0 i
  local -a words tokens texts
  [[ -x $program ]] || program=presencectl
  words=("${COMP_WORDS[@]:1:COMP_CWORD-1}" "$cur")
  if [[ $cur == "=" ]]; then # bash completes what comes after it
    words+=("") cur=""
  fi
  COMPREPLY=()
  {
    IFS= read -r files
    while IFS= read -r line; do
      token=${line%%$'\t'*}
      printf -v quoted %q "$token"
      [[ -n $token && ($token == "$cur"* || $quoted == "$cur"*) ]] || continue
      tokens+=("$quoted")
      texts+=("${line#*$'\t'}")
      (( ${#quoted} > width )) && width=${#quoted}
    done
  } < <("$program" __complete "${words[@]}" 2>/dev/null)
  # What is registered below offers files where there is nothing else. bash 3.2 cannot
  # take that back, and offers too much.
  [[ $files == files ]] || compopt +o bashdefault +o default 2>/dev/null
  # At the second TAB bash only lists, and what the words mean is shown beside them.
  if [[ ${COMP_TYPE:-} == 63 ]] && (( ${#tokens[@]} > 1 )); then
    for (( i = 0; i < ${#tokens[@]}; i++ )); do
      line=${tokens[i]}
      [[ -z ${texts[i]} ]] || printf -v line '%-*s  %s' "$width" "${tokens[i]}" "${texts[i]}"
      COMPREPLY+=("$line")
    done
  else
    COMPREPLY=(${tokens[@]+"${tokens[@]}"})
  fi
}

complete -o bashdefault -o default -F _presencectl presencectl
