package cloud

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// wholeBody sends each request's body from memory. The SDK closes a body as soon as it has the answer's head, while
// the transport may still be about to look for the body's end: with an endpoint that is near, the connection then
// breaks in the middle of the answer.
type wholeBody struct{ client ec2.HTTPClient }

// Do implements [ec2.HTTPClient].
func (c wholeBody) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return c.client.Do(r)
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the request's body: %w", err)
	}
	own := r.WithContext(r.Context()) // the SDK keeps and closes the other one
	own.Body, own.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	return c.client.Do(own)
}
