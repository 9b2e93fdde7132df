package cloud_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"rehost/internal/cloud"
)

// cut is the answer of a fake EC2 that does the call and then cuts the connection.
const cut = ""

// fake plays EC2 by a function. An answer that is an error has its HTTP status; [cut] is no answer at all.
func fake(t *testing.T, play func(action string, form url.Values) (status int, answer string)) cloud.Config {
	t.Helper()
	ec2 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		r.Form.Set("key", r.Header.Get("Authorization"))
		status, answer := play(r.FormValue("Action"), r.Form)
		if answer == cut {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(ec2.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	return cloud.Config{Endpoint: ec2.URL, Region: "local-1", Poll: time.Millisecond}
}

func openFake(t *testing.T, cfg cloud.Config) *cloud.Client {
	t.Helper()
	return must[*cloud.Client](t)(cloud.Open(t.Context(), cfg))
}

// refusal is EC2's error document.
func refusal(code, message string) string {
	return `<Response><Errors><Error><Code>` + code + `</Code><Message>` + message + `</Message></Error></Errors><RequestID>r</RequestID></Response>`
}
