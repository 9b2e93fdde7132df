package cli

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// local are the verbs that ask no controller.
var local = []string{
	"rehost dev", "rehost localcloud", "rehost convert apply", "rehost convert plan", "rehost convert undo", "rehost fmt", "rehost import mgn",
	"rehost export mgn", "rehost validate", "rehost version",
}

// deaf listens and never says a word.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// lostContext names a bus at the address, which is none.
func lostContext(t *testing.T, s *broker.Server, address string) string {
	t.Helper()
	where := bustest.Context(t, s, protocol.RoleOperator, "operator")
	where.Bus.Servers = []string{"tls://" + address}
	file := t.TempDir() + "/context.json"
	if err := bus.SaveContext(file, where); err != nil {
		t.Fatal(err)
	}
	return file
}

// Every verb says that there is no contact, instead of waiting in silence or going on: where nobody listens, and where somebody listens who does not answer.
func TestEveryVerbSaysThatThereIsNoContact(t *testing.T) {
	s := bustest.Start(t)
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for what, file := range map[string]string{"nobody": lostContext(t, s, nobody), "deaf": lostContext(t, s, deaf(t))} {
		env, _, _ := testEnv(file, "")
		for _, cmd := range verbs(newRoot(env)) {
			if slices.Contains(local, cmd.CommandPath()) {
				continue
			}
			line, _, _ := strings.Cut(cmd.Example, "\n")
			args := split(strings.ReplaceAll(line, "configs/", root+"/configs/"))[1:]
			wg.Go(func() {
				if wrong := noContact(t.Context(), file, args); wrong != "" {
					t.Errorf("%s: %v %s", what, args, wrong)
				}
			})
		}
	}
}

// noContact runs a command and says what is wrong with how it tells that there is no contact.
func noContact(ctx context.Context, file string, args []string) string {
	env, out, errOut := testEnv(file, "")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- Main(ctx, env, args) }()
	for told := false; !told; {
		select {
		case code := <-ended:
			told = true
			if text := errOut.String(); code != exitFailure || !strings.Contains(text, "error: ") || !strings.Contains(text, "hint: ") {
				return fmt.Sprintf("ends with %d: %s", code, text)
			}
		case <-time.After(20 * time.Millisecond): // what follows something goes on to try, and says so
			told = strings.Contains(errOut.String(), "lost contact with the controller")
		}
	}
	if out.String() != "" {
		return fmt.Sprintf("prints %q", out)
	}
	return ""
}
