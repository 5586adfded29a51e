# bash completion for livego
_livego() {
	local value
	COMPREPLY=()
	while IFS=$'\t' read -r value _; do
		[[ -n $value ]] && COMPREPLY+=("$value")
	done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _livego livego
