package imds

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func request(t *testing.T, method, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestEveryAnswerNeedsAToken(t *testing.T) {
	doc := Document{InstanceID: "i-1", Zone: "local-1a", UserData: []byte("hello"), Tags: map[string]string{"a": "b"}, Devices: map[string]string{"root": "/dev/xvda"}}
	srv := httptest.NewServer(New(func() (Document, bool) { return doc, true }))
	defer srv.Close()
	for _, path := range []string{"/", "/latest/user-data", "/latest/meta-data/instance-id"} {
		if code, body := request(t, "GET", srv.URL+path); code != 401 || strings.Contains(body, "hello") {
			t.Errorf("%s without a token: %d %q", path, code, body)
		}
		if code, _ := request(t, "GET", srv.URL+path, tokenHeader, "forged"); code != 401 {
			t.Errorf("%s with a forged token: %d", path, code)
		}
	}
	token := func(ttl string) (int, string) { return request(t, "PUT", srv.URL+"/latest/api/token", ttlHeader, ttl) }
	for _, ttl := range []string{"", "0", "21601", "x"} {
		if code, _ := token(ttl); code != 400 {
			t.Errorf("token for %q: %d, want 400", ttl, code)
		}
	}
	if code, _ := request(t, "PUT", srv.URL+"/latest/api/token", ttlHeader, "60", "X-Forwarded-For", "1.2.3.4"); code != 403 {
		t.Errorf("a forwarded request got %d", code)
	}
	_, tok := token("60")
	for path, want := range map[string]string{
		"/latest/user-data":                                 "hello",
		"/latest/meta-data/instance-id":                     "i-1",
		"/2021-03-23/meta-data/placement/availability-zone": "local-1a",
		"/latest/meta-data/block-device-mapping/":           "root",
		"/latest/meta-data/tags/instance/a":                 "b",
		"/latest/":                                          "dynamic/\nmeta-data/\nuser-data",
	} {
		if code, body := request(t, "GET", srv.URL+path, tokenHeader, tok); code != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	if code, body := request(t, "GET", srv.URL+"/latest/dynamic/instance-identity/document", tokenHeader, tok); code != 200 || !strings.Contains(body, `"instanceId": "i-1"`) {
		t.Errorf("identity document: %d %s", code, body)
	}
	if code, _ := request(t, "GET", srv.URL+"/latest/meta-data/nothing", tokenHeader, tok); code != 404 {
		t.Errorf("an unknown path gave %d", code)
	}
}

func TestConnectJoinsBothDirections(t *testing.T) {
	srv := httptest.NewServer(New(func() (Document, bool) { return Document{InstanceID: "i-1"}, true }))
	defer srv.Close()
	var out strings.Builder
	in := strings.NewReader("GET /latest/meta-data/instance-id HTTP/1.0\r\n\r\n")
	if err := Connect(srv.Listener.Addr().String(), in, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "HTTP/1.0 401") {
		t.Errorf("got %q", out.String())
	}
}
