package target

import (
	"context"
	"strconv"
	"strings"
)

// carry runs a script that comes over its input: $1 bytes of it, by the interpreter that follows. The file has no name any more when the script begins,
// so nothing of it stays when that is killed, and it need not lie where programs may be started.
const carry = `umask 077
f=$(mktemp) || exit
cat >"$f"; exec 3<"$f"; rm "$f"
[ $(wc -c </proc/self/fd/3) -eq "$1" ] || { echo "the script did not arrive whole" >&2; exit 1; }
shift
exec "$@" /proc/self/fd/3 </dev/null`

// RunScript is [Shell.Run] for a script that says on its first line what runs it. Its input is empty.
func (s *Shell) RunScript(ctx context.Context, content string) (Result, error) {
	first, _, _ := strings.Cut(content, "\n")
	words := []string{"sh", "-c", carry, "rehost", strconv.Itoa(len(content))}
	program, argument, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(first, "#!")), " ")
	if words = append(words, program); argument != "" {
		words = append(words, strings.TrimSpace(argument)) // as one, as the kernel does it
	}
	return s.Run(ctx, Quote(words), []byte(content))
}
