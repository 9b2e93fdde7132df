package mgn

import (
	"io"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"rehost/protocol"
)

// WriteHCL writes what an inventory says as a configuration. Its default launch block chooses
// the instance type as MGN does when nothing is said: by the source's cores and memory.
func WriteHCL(w io.Writer, in Inventory) error {
	file := hclwrite.NewEmptyFile()
	body := file.Body()
	body.AppendNewBlock("replication", []string{defaultBlock})
	body.AppendNewline()
	text(body.AppendNewBlock("launch", []string{defaultBlock}).Body(), "instance_type", protocol.InstanceTypeAuto)
	for _, l := range in.Fleet.Launches {
		body.AppendNewline()
		launchBody(body.AppendNewBlock("launch", []string{l.Name}).Body(), l)
	}
	for _, s := range in.Fleet.Servers {
		body.AppendNewline()
		b := body.AppendNewBlock("server", []string{s.Name}).Body()
		if s.Launch != defaultBlock {
			b.SetAttributeTraversal("launch", reference("launch", s.Launch))
		}
	}
	for _, a := range in.Fleet.Applications {
		body.AppendNewline()
		references(body.AppendNewBlock("application", []string{a.Name}).Body(), "servers", "server", a.Servers)
	}
	for _, wave := range in.Fleet.Waves {
		body.AppendNewline()
		references(body.AppendNewBlock("wave", []string{wave.Name}).Body(), "applications", "application", wave.Applications)
	}
	_, err := w.Write(hclwrite.Format(file.Bytes()))
	return err
}

func launchBody(b *hclwrite.Body, l protocol.LaunchSettings) {
	b.SetAttributeTraversal("from", reference("launch", defaultBlock))
	text(b, "instance_type", l.InstanceType)
	text(b, "subnet", l.Subnet)
	texts(b, "security_groups", l.SecurityGroups)
	text(b, "instance_profile", l.Profile)
	text(b, "tenancy", l.Tenancy)
	if len(l.Tags) > 0 {
		tags := map[string]cty.Value{}
		for k, v := range l.Tags {
			tags[k] = cty.StringVal(v)
		}
		b.SetAttributeValue("tags", cty.MapVal(tags))
	}
	for _, n := range l.Interfaces {
		nic := b.AppendNewBlock("network_interface", nil).Body()
		text(nic, "subnet", n.Subnet)
		texts(nic, "security_groups", n.SecurityGroups)
		text(nic, "private_ip", n.PrivateIP)
	}
	for _, d := range l.Disks {
		text(b.AppendNewBlock("disk", []string{d.Name}).Body(), "volume_type", d.VolumeType)
	}
}

func text(b *hclwrite.Body, name, value string) {
	if value != "" {
		b.SetAttributeValue(name, cty.StringVal(value))
	}
}

func texts(b *hclwrite.Body, name string, values []string) {
	if len(values) == 0 {
		return
	}
	all := make([]cty.Value, len(values))
	for i, v := range values {
		all[i] = cty.StringVal(v)
	}
	b.SetAttributeValue(name, cty.ListVal(all))
}

// reference is KIND.NAME, with the name as an index where it is no identifier, as "3-web" is.
func reference(kind, name string) hcl.Traversal {
	root := hcl.TraverseRoot{Name: kind}
	if hclsyntax.ValidIdentifier(name) {
		return hcl.Traversal{root, hcl.TraverseAttr{Name: name}}
	}
	return hcl.Traversal{root, hcl.TraverseIndex{Key: cty.StringVal(name)}}
}

func references(b *hclwrite.Body, attribute, kind string, names []string) {
	items := make([]hclwrite.Tokens, len(names))
	for i, n := range names {
		items[i] = hclwrite.TokensForTraversal(reference(kind, n))
	}
	b.SetAttributeRaw(attribute, hclwrite.TokensForTuple(items))
}
