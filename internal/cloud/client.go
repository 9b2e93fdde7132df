package cloud

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/smithy-go/middleware"
	"github.com/hashicorp/go-hclog"

	"rehost/internal/hint"
)

// Intervals between two looks while waiting, unless [Config] says otherwise.
const (
	pollAWS      = 3 * time.Second
	pollEndpoint = 250 * time.Millisecond
	maxAttempts  = 8
	maxBackoff   = 20 * time.Second
)

// Config says which EC2 to talk to, and as whom. The zero value is the SDK's default
// chain: environment, shared files, instance role.
type Config struct {
	Endpoint        string        // URL of an EC2 endpoint; empty: AWS itself
	Region          string        // empty: from the environment or the profile
	Profile         string        // of the shared configuration; empty: default
	CredentialsFile string        // shared credentials file; empty: the usual place
	RoleARN         string        // role to assume, in the target account; empty: none
	ExternalID      string        // that the role's trust policy asks for; empty: none
	Fleet           string        // whose all that is made is, and all that is looked for by tags; empty: nobody's
	Poll            time.Duration // between two looks while waiting; 0: 3 s, or 250 ms with an Endpoint
	MaxBackoff      time.Duration // the longest pause before a call is repeated; 0: 20 s
	Logger          hclog.Logger  // nil: none
	HTTPClient      *http.Client  // for calls of EC2; nil: the SDK's
	May             func() error  `json:"-"` // says that calls may be made, or why not, before each try of each call; nil: they may
}

// Client speaks to one region of one account. It is safe for concurrent use.
type Client struct {
	ec2    *ec2.Client
	ebs    *ebs.Client
	kms    *kms.Client
	region string

	servicequotas *servicequotas.Client

	fleet  string
	pace   *pace
	poll   time.Duration
	logger hclog.Logger

	lists     blockLists
	attaching sync.Mutex  // one choice of a device name at a time
	triable   atomic.Bool // it was seen that DryRun is known
}

// Open loads the credentials and makes a client. It asks EC2 nothing; see [Client.Check].
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = maxBackoff
	}
	var opts []func(*config.LoadOptions) error
	if cfg.Region != "" {
		opts = append(opts, config.WithRegion(cfg.Region))
	}
	if cfg.Profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(cfg.Profile))
	}
	if cfg.CredentialsFile != "" {
		if cfg.Profile == "" { // a named profile goes before the environment's keys, as a named file should
			opts = append(opts, config.WithSharedConfigProfile("default"))
		}
		opts = append(opts, config.WithSharedCredentialsFiles([]string{cfg.CredentialsFile}))
	}
	sdk, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("load cloud configuration: %w", err),
			"check `profile` and `credentials_file` in the controller's cloud block")
	}
	if sdk.Region == "" {
		return nil, hint.New("no region for the cloud", "set `region` in the controller's cloud block, or AWS_REGION")
	}
	if cfg.May != nil {
		sdk.APIOptions = append(sdk.APIOptions, only(cfg.May))
	}
	wallet := newWallet(&sdk, cfg, opts)
	c := &Client{region: sdk.Region, fleet: cfg.Fleet, pace: newPace(cfg.MaxBackoff, sdk.RetryMode), poll: cfg.Poll, logger: cfg.Logger}
	if c.logger == nil {
		c.logger = hclog.NewNullLogger()
	}
	if c.poll == 0 {
		c.poll = pollAWS
		if cfg.Endpoint != "" {
			c.poll = pollEndpoint
		}
	}
	c.ec2 = ec2.NewFromConfig(sdk, func(o *ec2.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
		if cfg.HTTPClient != nil {
			o.HTTPClient = cfg.HTTPClient
		}
		o.HTTPClient = wholeBody{o.HTTPClient}
		o.Retryer = c.pace
		o.APIOptions = append(o.APIOptions, wallet.watch)
	})
	if cfg.Endpoint != "" { // one that plays EC2 plays the others too
		sdk.BaseEndpoint = aws.String(cfg.Endpoint)
	}
	sdk.APIOptions = append(sdk.APIOptions, wallet.watch)
	c.ebs = ebs.NewFromConfig(sdk, func(o *ebs.Options) { o.Retryer = c.pace })
	c.kms = kms.NewFromConfig(sdk, func(o *kms.Options) { o.Retryer = c.pace })
	c.servicequotas = servicequotas.NewFromConfig(sdk, func(o *servicequotas.Options) { o.Retryer = c.pace })
	return c, nil
}

// only makes each try of a call ask whether it may be made, last of all before it is sent.
func only(may func() error) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("rehost.Only", func(
			ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
		) (out middleware.FinalizeOutput, meta middleware.Metadata, err error) {
			if err := may(); err != nil {
				return out, meta, err
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.After)
	}
}

// Check makes one harmless call, so that a wrong endpoint or wrong credentials are found early.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{MaxResults: aws.Int32(5)}, func(o *ec2.Options) {
		o.RetryMaxAttempts = 2 // a person waits
	})
	return fail(err, "ask the cloud for its security groups")
}
