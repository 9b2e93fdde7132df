package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"rehost/internal/hint"
	"rehost/internal/version"
)

const (
	sendWithin = 15 * time.Second // of one attempt; the specification of Standard Webhooks proposes 15 to 30 s
	// minSecret is what that specification asks of a secret at least.
	minSecret = 24 // bytes
	// contentType is that of the CloudEvents HTTP binding's structured mode.
	contentType = "application/cloudevents+json; charset=utf-8"
	maxAnswer   = 64 << 10 // read of an answer, so that the connection can be used again
)

// Secrets reads the secrets with which events are signed: one a line, in base64, with or without the prefix "whsec_". With two of them
// each event carries two signatures, so that a receiver can change from one to the other.
func Secrets(path string) ([]*standardwebhooks.Webhook, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("read the secret of a webhook: %w", err), secretHint(path))
	}
	var out []*standardwebhooks.Webhook
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "whsec_"))
		if err != nil || len(key) < minSecret {
			return nil, hint.New(fmt.Sprintf("%s: a line is no secret: want at least %d bytes in base64", path, minSecret), secretHint(path))
		}
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, err
		}
		out = append(out, signer)
	}
	if len(out) == 0 {
		return nil, hint.New("no secret in "+path, secretHint(path))
	}
	return out, nil
}

func secretHint(path string) string {
	return "make one: (umask 077; echo whsec_$(openssl rand -base64 32) > " + path + "), and give it to the receiver"
}

// newClient follows no redirection: what a receiver did not declare gets nothing.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       sendWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send makes one attempt. Only an answer of 2xx is a success.
func (h *hook) send(ctx context.Context, l letter) error {
	secrets, err := Secrets(h.cfg.SecretFile)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.cfg.URL, bytes.NewReader(l.body))
	if err != nil {
		return fmt.Errorf("deliver to %s: %w", h.cfg.Name, err)
	}
	now := time.Now()
	var signatures []string
	for _, s := range secrets {
		signature, err := s.Sign(l.event.ID, now, l.body)
		if err != nil {
			return fmt.Errorf("sign event %s: %w", l.event.ID, err)
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "rehost/"+version.String())
	req.Header.Set(standardwebhooks.HeaderWebhookID, l.event.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	answer, err := h.client.Do(req)
	if err != nil {
		if of, ok := errors.AsType[*url.Error](err); ok {
			err = of.Err // a URL may be secret
		}
		return fmt.Errorf("deliver to %s: %w", h.cfg.Name, err)
	}
	defer func() {
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // only so that the connection can be used again
		_ = answer.Body.Close()
	}()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("deliver to %s: it answers %s", h.cfg.Name, answer.Status)
	}
	return nil
}
