package localcloud_test

import (
	"encoding/base64"
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"rehost/localcloud"
	"rehost/test/image"
)

// cloudConfig is the user data of the server; Debian's images have a user debian.
const cloudConfig = `#cloud-config
write_files:
  - path: /etc/motd-of-the-launch
    content: launched with user data
runcmd:
  - [sh, -c, 'echo "ran as $(id -un)" >/run/ran']
`

// questions is what the server is asked once it is up. The answers are lines.
const questions = `
metadata=http://169.254.169.254/latest
cat /etc/motd-of-the-launch; echo
cat /run/ran
id -un
sudo -n id -un
hostname
cloud-id
cloud-init status
cat /var/lib/cloud/data/instance-id
curl -s -o /dev/null -w '%{http_code}\n' $metadata/meta-data/instance-id
token=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $metadata/api/token)
curl -s -H "X-aws-ec2-metadata-token: $token" $metadata/meta-data/instance-id; echo
`

// Somebody else's guest cannot tell where it runs: Debian's cloud-init takes this
// for EC2, strictly, and sets the server up from its metadata.
func TestCloudInit(t *testing.T) {
	if os.Getenv("REHOST_CLOUDINIT") == "" {
		t.Skip("takes minutes: make cloudinit")
	}
	disk := must[string](t)(image.Build(t.Context(), image.Options{Variant: image.CloudInit, Progress: func(s string) { t.Log(s) }}))
	cfg := testConfig(t.TempDir(), localcloud.Image{Name: "debian", Path: disk})
	cfg.PoolSizeBytes = 8 << 30
	c, _ := start(t, cfg)
	ctx := t.Context()
	key := must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("mine"), KeyType: types.KeyTypeEd25519}))
	signer := must[ssh.Signer](t)(ssh.ParsePrivateKey([]byte(*key.KeyMaterial)))
	group := must[*ec2.CreateSecurityGroupOutput](t)(c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("ssh"), Description: aws.String("ssh")}))
	must[*ec2.AuthorizeSecurityGroupIngressOutput](t)(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: group.GroupId, IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), CidrIp: aws.String("0.0.0.0/0"),
	}))
	launched := time.Now()
	in := run(t, c, &ec2.RunInstancesInput{
		ImageId: imageID(t, c, "debian"), InstanceType: types.InstanceTypeT3Small, KeyName: key.KeyName, SecurityGroupIds: []string{*group.GroupId},
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(cloudConfig))),
	})
	id := *in.InstanceId

	finished := regexp.MustCompile(`Cloud-init v\. \S+ finished at .* Datasource DataSourceEc2Local\.`)
	defer func() {
		if t.Failed() {
			t.Logf("console:\n%s", console(t, c, id))
		}
	}()
	for end := launched.Add(20 * time.Minute); !finished.MatchString(console(t, c, id)); time.Sleep(2 * time.Second) {
		if time.Now().After(end) {
			t.Fatal("cloud-init does not finish")
		}
	}
	t.Logf("%q after %s", finished.FindString(console(t, c, id)), time.Since(launched).Round(time.Second))

	said := overSSH(t, net.JoinHostPort(*in.PrivateIpAddress, "22"), "debian", signer, console(t, c, id), questions)
	name, _, _ := strings.Cut(*in.PrivateDnsName, ".")
	want := []string{"launched with user data", "ran as root", "debian", "root", name, "aws", "status: done", id, "401", id}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(said), "\n")); diff != "" {
		t.Errorf("the server says (-want +got):\n%s", diff)
	}
	t.Logf("answered over SSH after %s:\n%s", time.Since(launched).Round(time.Second), said)
}

// overSSH logs in and returns what a script printed. The server must have one of
// the host keys that cloud-init wrote on its console.
func overSSH(t *testing.T, address, user string, key ssh.Signer, console, script string) string {
	t.Helper()
	client, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: time.Minute,
		HostKeyCallback: func(_ string, _ net.Addr, host ssh.PublicKey) error {
			if !strings.Contains(console, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host)))) {
				return errors.New("the host key is not on the console")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	out, err := s.CombinedOutput(script)
	if err != nil {
		t.Errorf("the script failed: %v", err)
	}
	return string(out)
}
