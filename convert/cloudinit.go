package convert

// cloudInitFile comes after what distributions, installers and other clouds have put beside it.
const cloudInitFile = "/etc/cloud/cloud.cfg.d/zz-rehost.cfg"

const cloudInitConfig = `# Written by rehost. In EC2 this server has another instance id, so cloud-init takes it for a new one. It must find its
# metadata at once, and leave alone what makes this server the one that it is.
datasource_list: [Ec2, None]
preserve_hostname: true
ssh_deletekeys: false
disable_root: false
users: []
network: {config: disabled}
`

// cloudInitFiles tell that cloud-init is installed, and what is known of it.
var cloudInitFiles = []string{"/usr/bin/cloud-init", "/etc/cloud/cloud.cfg", cloudInitFile}

// cloudInit plans that cloud-init, where it is installed, looks for EC2 and nothing else, and resets nothing: no host
// keys, no users, no name, no network.
func (p *planner) cloudInit() error {
	if p.facts.hasFile("/usr/bin/cloud-init") && p.facts.hasFile("/etc/cloud/cloud.cfg") {
		p.write(cloudInitFile, cloudInitConfig, 0o644, "cloud-init takes the server for a new one, and must reset nothing")
	}
	return nil
}
