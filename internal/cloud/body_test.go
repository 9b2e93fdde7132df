package cloud

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

type clientFunc func(*http.Request) (*http.Response, error)

func (f clientFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// TestABodyOutlivesItsClose closes the body that the SDK keeps before the transport has read its own.
func TestABodyOutlivesItsClose(t *testing.T) {
	reader, writer := io.Pipe()
	go func() {
		_, _ = io.WriteString(writer, "Action=DescribeVolumes")
		_ = writer.Close()
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", reader)
	if err != nil {
		t.Fatal(err)
	}
	sent := ""
	answer, err := wholeBody{clientFunc(func(own *http.Request) (*http.Response, error) {
		_ = r.Body.Close()
		data, err := io.ReadAll(own.Body)
		sent = string(data)
		return &http.Response{Body: io.NopCloser(strings.NewReader(""))}, err
	})}.Do(r)
	if err != nil || sent != "Action=DescribeVolumes" {
		t.Fatalf("got %q, %v", sent, err)
	}
	_ = answer.Body.Close()
}
