package api

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern, value string
		want           bool
	}{
		{"web", "web", true},
		{"web", "web1", false},
		{"web*", "web1", true},
		{"*", "", true},
		{"web?", "web", false},
		{"a.b", "axb", false},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
	} {
		if got := wildcard(c.pattern).MatchString(c.value); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.value, got)
		}
	}
}

func TestPagesSurviveWhatIsDeletedInBetween(t *testing.T) {
	p := func(kv ...string) params {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		return newParams(v)
	}
	keys := []string{"a", "b", "c", "d", "e", "f", "g"}
	first, next, err := page(keys, p("MaxResults", "5"), false, 1000)
	if err != nil || strings.Join(first, "") != "abcde" || next == "" {
		t.Fatalf("%v %q %v", first, next, err)
	}
	rest, end, err := page([]string{"a", "f", "g"}, p("MaxResults", "5", "NextToken", next), false, 1000)
	if err != nil || strings.Join(rest, "") != "fg" || end != "" {
		t.Errorf("%v %q %v", rest, end, err)
	}
	if _, _, err := page(keys, p("MaxResults", "5"), true, 1000); err == nil {
		t.Error("MaxResults together with ids")
	}
}

// The example of the AWS documentation: GET of a list of users, 2015-08-30.
func TestSignatureOfTheDocumentation(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	const signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
	header := "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature="
	c := Credentials{"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	now := time.Date(2015, 8, 30, 12, 40, 0, 0, time.UTC)
	r.Header.Set("Authorization", header+signature)
	if err := c.verify(r, nil, "iam", now); err != nil {
		t.Error(err)
	}
	if err := c.verify(r, nil, "iam", now.Add(time.Hour)); err == nil {
		t.Error("an old request passed")
	}
	if err := c.verify(r, []byte("other"), "iam", now); err == nil {
		t.Error("another body passed")
	}
	r.Header.Set("Authorization", header+strings.Replace(signature, "5", "6", 1))
	if err := c.verify(r, nil, "iam", now); err == nil {
		t.Error("another signature passed")
	}
}
