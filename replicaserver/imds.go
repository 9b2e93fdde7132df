package replicaserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	imdsTimeout = 5 * time.Second
	imdsMost    = 64 << 10
)

// metadata asks the instance's metadata service, version 2: a token first, then the path.
func metadata(ctx context.Context, endpoint, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, imdsTimeout)
	defer cancel()
	endpoint = strings.TrimSuffix(endpoint, "/")
	token, err := fetch(ctx, http.MethodPut, endpoint+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil {
		return "", err
	}
	return fetch(ctx, http.MethodGet, endpoint+"/latest/"+path, "X-aws-ec2-metadata-token", token)
}

func fetch(ctx context.Context, method, url, header, value string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", fmt.Errorf("metadata address %q: %w", url, err)
	}
	req.Header.Set(header, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("ask the metadata service: %w", err), "run this on an EC2 instance, or set AWS_EC2_METADATA_SERVICE_ENDPOINT")
	}
	defer resp.Body.Close() //nolint:errcheck // nothing was written
	body, err := io.ReadAll(io.LimitReader(resp.Body, imdsMost))
	if err != nil {
		return "", fmt.Errorf("read from the metadata service: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("metadata service answers %s to %s", resp.Status, url)
	}
	return string(body), nil
}

// userData reads what the controller gave the instance.
func userData(ctx context.Context, endpoint string) (u protocol.ReplicaServerUserData, instance string, err error) {
	text, err := metadata(ctx, endpoint, "user-data")
	if err != nil {
		return u, "", err
	}
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		return u, "", hint.Wrap(fmt.Errorf("decode the user data: %w", err), "replication servers are launched by the controller, not by hand")
	}
	instance, err = metadata(ctx, endpoint, "meta-data/instance-id")
	return u, instance, err
}
