package cloud_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/command"
)

const policies = "../../docs/aws"

// list is a string or a list of strings, as in IAM's JSON.
type list []string

func (l *list) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(l))
}

type statement struct {
	Sid       string
	Effect    string
	Action    list
	Resource  list
	Condition map[string]map[string]list
}

type policy struct {
	Version   string
	Statement []statement
}

// readPolicy parses a policy strictly: a field that IAM does not know is an error.
func readPolicy(t *testing.T, name string) policy {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(policies, name))
	if err != nil {
		t.Fatal(err)
	}
	var p policy
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if p.Version != "2012-10-17" || len(p.Statement) == 0 {
		t.Errorf("%s: version %q with %d statements", name, p.Version, len(p.Statement))
	}
	for _, s := range p.Statement {
		if !slices.Contains([]string{"Allow", "Deny"}, s.Effect) || len(s.Action) == 0 || len(s.Resource) == 0 || s.Sid == "" {
			t.Errorf("%s: incomplete statement %+v", name, s)
		}
	}
	return p
}

func (p policy) actions() []string {
	out := map[string]bool{}
	for _, s := range p.Statement {
		for _, a := range s.Action {
			out[a] = s.Effect == "Allow"
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// source is what the driver's source asks of AWS.
type source struct {
	calls   map[string]bool // service:Action
	tagging map[string]bool // actions that tag what they make
	encrypt bool            // something is encrypted with a key of the customer's
	profile bool            // an instance gets a role
}

// services are the driver's clients by the name of their field in Client, and of their package.
var services = []string{"ec2", "ebs", "kms", "servicequotas"}

// driverSource reads the driver's source: methods called on the SDK's clients, paginators, and the inputs' fields.
func driverSource(t *testing.T) source {
	t.Helper()
	s := source{calls: map[string]bool{}, tagging: map[string]bool{}}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				s.call(n)
			case *ast.CompositeLit:
				s.literal(n)
			case *ast.SelectorExpr:
				s.encrypt = s.encrypt || n.Sel.Name == "KmsKeyId"
				s.profile = s.profile || n.Sel.Name == "IamInstanceProfile"
			}
			return true
		})
	}
	return s
}

func (s *source) call(n *ast.CallExpr) {
	f, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	switch on := f.X.(type) {
	case *ast.SelectorExpr: // c.ec2.CreateVolume
		if slices.Contains(services, on.Sel.Name) {
			s.calls[on.Sel.Name+":"+f.Sel.Name] = true
		}
	case *ast.Ident: // ec2.NewDescribeVolumesPaginator
		if page, ok := strings.CutPrefix(f.Sel.Name, "New"); ok && slices.Contains(services, on.Name) && strings.HasSuffix(page, "Paginator") {
			s.calls[on.Name+":"+strings.TrimSuffix(page, "Paginator")] = true
		}
		if on.Name == "stscreds" && f.Sel.Name == "NewAssumeRoleProvider" {
			s.calls["sts:AssumeRole"] = true
		}
	}
}

func (s *source) literal(n *ast.CompositeLit) {
	kind, ok := n.Type.(*ast.SelectorExpr)
	if !ok {
		return
	}
	for _, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "TagSpecifications" {
				s.tagging[strings.TrimSuffix(kind.Sel.Name, "Input")] = true
			}
		}
	}
}

// TestThePoliciesAllowWhatTheDriverAsksForAndNoMore derives the actions from the driver's source.
func TestThePoliciesAllowWhatTheDriverAsksForAndNoMore(t *testing.T) {
	s := driverSource(t)
	want := maps.Clone(s.calls)
	if len(want) < 20 || !want["ec2:DescribeVolumes"] || !want["ec2:RunInstances"] {
		t.Fatalf("the driver's source has the calls %v only: the test cannot read it any more", slices.Sorted(maps.Keys(want)))
	}
	delete(want, "sts:AssumeRole") // another one's policy
	want["ec2:CreateTags"] = len(s.tagging) > 0
	want["iam:PassRole"] = s.profile
	for _, action := range []string{"CreateGrant", "Decrypt", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"} {
		want["kms:"+action] = s.encrypt // what EC2 asks a key for in the caller's name
	}
	maps.DeleteFunc(want, func(_ string, needed bool) bool { return !needed })
	controller := readPolicy(t, "controller.json")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), controller.actions()); diff != "" {
		t.Errorf("docs/aws/controller.json (-driver +policy):\n%s", diff)
	}
	for _, st := range controller.Statement {
		if st.Sid == "TagAtCreation" {
			if diff := cmp.Diff(slices.Sorted(maps.Keys(s.tagging)), []string(st.Condition["StringEquals"]["ec2:CreateAction"])); diff != "" {
				t.Errorf("what may be tagged when it is made (-driver +policy):\n%s", diff)
			}
		}
	}
	assume := readPolicy(t, "assume.json").actions()
	if s.calls["sts:AssumeRole"] != slices.Equal(assume, []string{"sts:AssumeRole"}) {
		t.Errorf("docs/aws/assume.json allows %v", assume)
	}
}

// figures are actions that tell a number or a state, and change nothing.
var figures = []string{"kms:DescribeKey", "servicequotas:GetAWSDefaultServiceQuota", "servicequotas:GetServiceQuota"}

// TestThePoliciesReachOnlyWhatIsOurs finds actions that change something, on anything, without a condition.
func TestThePoliciesReachOnlyWhatIsOurs(t *testing.T) {
	for _, s := range readPolicy(t, "controller.json").Statement {
		if !slices.Contains(s.Resource, "*") || len(s.Condition) > 0 {
			continue
		}
		for _, a := range s.Action {
			if !strings.HasPrefix(a, "ec2:Describe") && !slices.Contains(figures, a) {
				t.Errorf("%s: %s is allowed on everything", s.Sid, a)
			}
		}
	}
}

// TestHelpersAskAWSForNothing holds that replication server and conversion need no permission at all.
func TestHelpersAskAWSForNothing(t *testing.T) {
	for name, program := range map[string]string{"replicaserver.json": "rehost/cmd/rehost-replicaserver", "conversion.json": "rehost/cmd/rehost-convert"} {
		for _, s := range readPolicy(t, name).Statement {
			if s.Effect != "Deny" {
				t.Errorf("%s allows %v", name, s.Action)
			}
		}
		out, err := command.Run(t.Context(), "go", "list", "-deps", program)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "github.com/aws/aws-sdk-go-v2/service/") {
				t.Errorf("%s can call AWS: it is built from %s", program, strings.TrimSpace(line))
			}
		}
	}
}
