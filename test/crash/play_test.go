package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/agent"
	"rehost/controller"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/internal/jsonfile"
	"rehost/protocol"
)

// TestMain lets the test binary be the controller, and the programs of the local cloud's process images.
func TestMain(m *testing.M) {
	if len(os.Args) == 1 || strings.HasPrefix(os.Args[1], "-") {
		os.Exit(m.Run())
	}
	plays := map[string]func(ctx context.Context, dir string) error{
		"controller": playController, "replicaserver": playReplicaServer, "convert": playConversion, "broker": runBroker, "agent": runAgent, "staging": runReplicaServer,
	}
	var err error
	switch play := plays[os.Args[1]]; {
	case os.Args[1] == "freeze-helper":
		err = agent.FreezeHelper(context.Background(), os.Args[2:], os.Stdin, os.Stdout)
	case os.Args[1] == "survey-helper":
		err = agent.SurveyHelper(os.Stdin, os.Stdout)
	case play == nil || len(os.Args) != 3: // it must never be the tests once more
		err = fmt.Errorf("nothing plays %q", os.Args[1:])
	default:
		err = play(context.Background(), os.Args[2])
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// stage is what the players are told, in a file of the world's folder.
type stage struct {
	Dir      string       // of the controller
	Listen   string       // its own bus
	External *bus.Context // the bus beside it, when it has none
	Alone    bool         // it is the only controller there
	Cloud    cloud.Config // without what is no text
}

// config makes the controller as impatient as its tests.
func (s stage) config() controller.Config {
	return controller.Config{
		Name: os.Getenv(nameVariable), Dir: s.Dir, Listen: s.Listen, External: s.External, Alone: s.Alone, Cloud: s.Cloud, Timing: controller.Timing{
			Lease: lease,
			Tick:  50 * time.Millisecond, Poll: 50 * time.Millisecond, Retry: 50 * time.Millisecond, AgentLost: time.Minute, ReplicaLost: time.Minute,
		},
	}
}

// nameVariable has the name of a controller.
const nameVariable = "REHOST_CRASH_NAME"

const stageFile = "stage.json"

// playController is the controller, until it is killed.
func playController(ctx context.Context, dir string) error {
	var s stage
	if err := jsonfile.Read(filepath.Join(dir, stageFile), &s); err != nil {
		return err
	}
	return controller.Run(ctx, s.config(), controller.Deps{Logger: hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Info})})
}

// playReplicaServer says that the volumes are open, and stands still at the points that an agent has taken.
func playReplicaServer(ctx context.Context, dir string) error {
	text, err := userData(ctx)
	if err != nil {
		return err
	}
	var data protocol.ReplicaServerUserData
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		return fmt.Errorf("read the user data: %w", err)
	}
	instance, err := metadata(ctx, "meta-data/instance-id")
	if err != nil {
		return err
	}
	var nc *nats.Conn
	report := protocol.ReplicaReport{Name: data.Name, Instance: instance}
	for ; ; time.Sleep(20 * time.Millisecond) {
		if nc == nil {
			id, err := bus.Enrol(ctx, data.Bus, data.Token, protocol.RoleReplicaServer, data.Name)
			if err != nil {
				continue // the controller was killed meanwhile
			}
			if nc, err = bus.Connect(ctx, bus.Context{Bus: data.Bus, Identity: id}, hclog.NewNullLogger()); err != nil {
				nc = nil
				continue
			}
		}
		order, err := request[protocol.ReplicaReport, protocol.ReplicaOrder](ctx, nc, protocol.ReplicaReportSubject(data.Name), report)
		if err != nil {
			continue
		}
		report.Replicas = nil
		for _, a := range order.Replicas {
			report.Replicas = append(report.Replicas, protocol.ReplicaStatus{Server: a.Server, Generation: a.Generation, Held: held(dir, a)})
		}
	}
}

// markFile is where an agent says which point its replica is at.
func markFile(dir, server string) string { return filepath.Join(dir, server+".mark") }

// held is the point that a replica stands still at, until it is released.
func held(dir string, a protocol.ReplicaAssignment) *protocol.PointMark {
	var mark protocol.PointMark
	if err := jsonfile.Read(markFile(dir, a.Server), &mark); err != nil {
		return nil
	}
	if slices.Contains(a.Released, mark.ID) {
		_ = os.Remove(markFile(dir, a.Server))
		return nil
	}
	return &mark
}

// playConversion converts nothing: it waits for its volumes, and reports. The world stops its instance then.
func playConversion(ctx context.Context, _ string) error {
	text, err := userData(ctx)
	if err != nil {
		return err
	}
	var order protocol.ConversionOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	for there, _ := os.ReadDir(os.Getenv("REHOST_BY_ID")); len(there) < len(order.Disks); there, _ = os.ReadDir(os.Getenv("REHOST_BY_ID")) {
		time.Sleep(20 * time.Millisecond)
	}
	lines, err := protocol.ConsoleReport(&protocol.ConversionReport{Job: order.Job, OK: true, Guest: protocol.Guest{OS: "Debian", BootMode: "bios"}})
	for _, line := range lines {
		if _, werr := fmt.Fprintln(os.Stdout, line); werr != nil {
			return werr
		}
	}
	if err != nil {
		return err
	}
	for ; ; time.Sleep(time.Hour) {
	}
}

func userData(ctx context.Context) (string, error) { return metadata(ctx, "user-data") }

// metadata asks the instance's metadata service.
func metadata(ctx context.Context, path string) (string, error) {
	endpoint := os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT") + "/latest/"
	token, err := fetch(ctx, http.MethodPut, endpoint+"api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil {
		return "", err
	}
	return fetch(ctx, http.MethodGet, endpoint+path, "X-aws-ec2-metadata-token", token)
}

func fetch(ctx context.Context, method, url, header, value string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(header, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}

// request asks once, with little patience: the controller may just be dead.
func request[Req, Reply any](ctx context.Context, nc *nats.Conn, subject string, req Req) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return bus.Request[Req, Reply](ctx, nc, subject, req)
}
