#compdef livego
_livego() {
	local -a described
	local line
	for line in "${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		[[ -n $line ]] && described+=("${${line%%$'\t'*}//:/\\:}${${line#*$'\t'}:+:${line#*$'\t'}}")
	done
	if (( $#described )); then
		_describe livego described
	else
		_files
	fi
}
if [[ $funcstack[1] == _livego ]]; then
	_livego "$@"
else
	compdef _livego livego
fi
