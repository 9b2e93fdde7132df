// Package imds is the metadata service of one instance, version 2: every
// answer needs a session token, unless the instance's options allow version 1.
// It owns its tokens and nothing else, and starts no listener.
package imds

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	// longestTTL is EC2's: six hours.
	longestTTL = 21600
)

// Document is what the service knows of its instance.
type Document struct {
	InstanceID, ImageID, InstanceType, Architecture string
	Account, Region, Zone                           string
	Hostname, PublicIPv4                            string
	ReservationID                                   string
	LaunchIndex                                     int
	// Profile is the ARN of the instance profile.
	Profile string
	// Interfaces are the network interfaces, the first one first.
	Interfaces []Interface
	// KeyName and PublicKey are the instance's SSH key, in the form of authorized_keys.
	KeyName, PublicKey string
	SecurityGroups     []string
	// Devices are the block device mappings: "root", "ami", "ebs1", ... to a name.
	Devices  map[string]string
	UserData []byte
	// Tags are shown when the instance's options say so.
	Tags map[string]string
	// Pending is when the instance was launched.
	Pending time.Time
	// TokenOptional allows version 1.
	TokenOptional bool
	// Disabled turns the service off.
	Disabled bool
}

// Interface is a network interface.
type Interface struct{ ID, MAC, LocalIPv4, SubnetID string }

func (d Document) first() Interface {
	if len(d.Interfaces) == 0 {
		return Interface{}
	}
	return d.Interfaces[0]
}

// Service answers for one instance.
type Service struct {
	document func() (Document, bool)
	mu       sync.Mutex
	tokens   map[string]time.Time
}

// New returns a service for the instance that document describes; its second
// result is false when the instance is gone.
func New(document func() (Document, bool)) *Service {
	return &Service{document: document, tokens: map[string]time.Time{}}
}

// version is the first part of a path: latest, or the date of a version.
var version = regexp.MustCompile(`^(latest|1\.0|\d{4}-\d{2}-\d{2})$`)

// ServeHTTP implements [http.Handler].
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d, ok := s.document()
	w.Header().Set("Server", "EC2ws")
	switch {
	case !ok:
		http.Error(w, "no such instance", http.StatusNotFound)
	case d.Disabled, r.Header.Get("X-Forwarded-For") != "":
		// A forwarded request is a proxy that an attacker talked into asking.
		http.Error(w, "forbidden", http.StatusForbidden)
	case r.URL.Path == "/latest/api/token":
		s.giveToken(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case !s.authorized(r, d):
		http.Error(w, "a session token is required", http.StatusUnauthorized)
	default:
		answer(w, r.URL.Path, d)
	}
}

func (s *Service) giveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > longestTTL {
		http.Error(w, "the token's time to live must be 1 to 21600 seconds", http.StatusBadRequest)
		return
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	token := hex.EncodeToString(b[:])
	now := time.Now()
	s.mu.Lock()
	for t, end := range s.tokens {
		if now.After(end) {
			delete(s.tokens, t)
		}
	}
	s.tokens[token] = now.Add(time.Duration(ttl) * time.Second)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	_, _ = w.Write([]byte(token))
}

func (s *Service) authorized(r *http.Request, d Document) bool {
	token := r.Header.Get(tokenHeader)
	if token == "" {
		return d.TokenOptional
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.tokens[token])
}

func answer(w http.ResponseWriter, asked string, d Document) {
	parts := strings.SplitN(strings.Trim(path.Clean(asked), "/"), "/", 2)
	w.Header().Set("Content-Type", "text/plain")
	if parts[0] == "" || parts[0] == "." {
		_, _ = w.Write([]byte("1.0\n2021-03-23\nlatest"))
		return
	}
	if !version.MatchString(parts[0]) {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	rest := ""
	if len(parts) == 2 {
		rest = parts[1]
	}
	files := d.files()
	if body, ok := files[rest]; ok {
		_, _ = w.Write(body)
		return
	}
	list := listing(files, rest)
	if len(list) == 0 {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	_, _ = w.Write([]byte(strings.Join(list, "\n")))
}

// listing names what is directly below a folder; folders end in a slash.
func listing(files map[string][]byte, folder string) []string {
	prefix := folder
	if prefix != "" {
		prefix += "/"
	}
	var out []string
	for name := range files {
		below, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		if first, _, deeper := strings.Cut(below, "/"); deeper {
			below = first + "/"
		}
		out = append(out, below)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	// What is a file and a folder at once, as the list of public keys, is shown as a folder.
	return slices.DeleteFunc(out, func(name string) bool { return slices.Contains(out, name+"/") })
}

// files is the whole tree below a version.
func (d Document) files() map[string][]byte {
	f := map[string][]byte{}
	add := func(name, value string) {
		if value != "" {
			f["meta-data/"+name] = []byte(value)
		}
	}
	add("instance-id", d.InstanceID)
	add("ami-id", d.ImageID)
	add("ami-launch-index", strconv.Itoa(d.LaunchIndex))
	add("instance-type", d.InstanceType)
	add("local-ipv4", d.first().LocalIPv4)
	add("public-ipv4", d.PublicIPv4)
	add("hostname", d.Hostname)
	add("local-hostname", d.Hostname)
	add("public-hostname", d.Hostname)
	add("mac", d.first().MAC)
	add("reservation-id", d.ReservationID)
	add("security-groups", strings.Join(d.SecurityGroups, "\n"))
	add("placement/availability-zone", d.Zone)
	add("placement/region", d.Region)
	add("services/domain", "amazonaws.com")
	add("services/partition", "aws")
	if d.PublicKey != "" {
		add("public-keys", "0="+d.KeyName)
		add("public-keys/0/openssh-key", d.PublicKey)
	}
	for name, device := range d.Devices {
		add("block-device-mapping/"+name, device)
	}
	for i, n := range d.Interfaces {
		nic := "network/interfaces/macs/" + n.MAC + "/"
		add(nic+"mac", n.MAC)
		add(nic+"interface-id", n.ID)
		add(nic+"subnet-id", n.SubnetID)
		add(nic+"device-number", strconv.Itoa(i))
		add(nic+"local-ipv4s", n.LocalIPv4)
	}
	if d.Profile != "" {
		f["meta-data/iam/info"] = d.iam()
	}
	for key, value := range d.Tags {
		f["meta-data/tags/instance/"+key] = []byte(value)
	}
	if len(d.UserData) > 0 {
		f["user-data"] = d.UserData
	}
	f["dynamic/instance-identity/document"] = d.identity()
	return f
}

// iam says which instance profile there is. There is no IAM here, so there are no credentials.
func (d Document) iam() []byte {
	raw, _ := json.MarshalIndent(map[string]any{
		"Code": "Success", "LastUpdated": d.Pending.UTC().Format(time.RFC3339), "InstanceProfileArn": d.Profile,
	}, "", "  ")
	return raw
}

func (d Document) identity() []byte {
	raw, _ := json.MarshalIndent(map[string]any{
		"accountId": d.Account, "architecture": d.Architecture, "availabilityZone": d.Zone, "imageId": d.ImageID,
		"instanceId": d.InstanceID, "instanceType": d.InstanceType, "pendingTime": d.Pending.UTC().Format(time.RFC3339),
		"privateIp": d.first().LocalIPv4, "region": d.Region, "version": "2017-09-30",
	}, "", "  ")
	return raw
}
