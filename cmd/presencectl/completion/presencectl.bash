# Completion of presencectl for bash 3.2 or later, which needs nothing else:
#   source <(presencectl completion bash)
#
# The words of the line are given to presencectl as they stand. Nothing in them is
# expanded or run, and what is asked is the presencectl that wrote this, not the first
# word of the line.
_presencectl() {
  local program=@PROGRAM@ cur=${COMP_WORDS[COMP_CWORD]} line token width=0 i
  local -a words tokens texts
  [[ -x $program ]] || program=presencectl
  words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
  [[ $cur == -* ]] && words+=("$cur")
  COMPREPLY=()
  while IFS= read -r line; do
    token=${line%%:*}
    [[ -n $token && $token == "$cur"* ]] || continue
    tokens+=("$token")
    texts+=("${line#*:}")
    (( ${#token} > width )) && width=${#token}
  done < <("$program" ${words[@]+"${words[@]}"} --generate-shell-completion 2>/dev/null)
  # At the second TAB bash only lists, and what the words mean is shown beside them.
  if [[ ${COMP_TYPE:-} == 63 ]] && (( ${#tokens[@]} > 1 )); then
    for (( i = 0; i < ${#tokens[@]}; i++ )); do
      printf -v line '%-*s  %s' "$width" "${tokens[i]}" "${texts[i]}"
      COMPREPLY+=("$line")
    done
  else
    COMPREPLY=(${tokens[@]+"${tokens[@]}"})
  fi
}

complete -o bashdefault -o default -F _presencectl presencectl
