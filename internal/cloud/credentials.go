package cloud

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
)

// sessionName is what an account's trail shows for calls in an assumed role.
const sessionName = "rehost-controller"

// wallet has the credentials: those of the SDK's chain, or of a role that they may assume. What
// EC2 calls expired is thrown away, and the next call reads the chain anew, files included: a
// person who renews them need not restart anything.
type wallet struct {
	caches []*aws.CredentialsCache
}

// newWallet makes the wallet, and puts it into sdk.
func newWallet(sdk *aws.Config, cfg Config, opts []func(*config.LoadOptions) error) *wallet {
	chain := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		again, err := config.LoadDefaultConfig(ctx, opts...)
		if err != nil {
			return aws.Credentials{}, &noCredentials{err}
		}
		found, err := again.Credentials.Retrieve(ctx)
		if err != nil {
			return aws.Credentials{}, &noCredentials{err}
		}
		return found, nil
	}))
	sdk.Credentials = chain
	w := &wallet{caches: []*aws.CredentialsCache{chain}}
	if cfg.RoleARN == "" {
		return w
	}
	own := sdk.Copy()
	asker := sts.NewFromConfig(own, func(o *sts.Options) {
		if cfg.Endpoint != "" { // one that plays EC2 plays STS too
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	role := stscreds.NewAssumeRoleProvider(asker, cfg.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = sessionName
		if cfg.ExternalID != "" {
			o.ExternalID = aws.String(cfg.ExternalID)
		}
	})
	assumed := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		found, err := role.Retrieve(ctx)
		if err != nil {
			if expired(err) {
				chain.Invalidate()
			}
			return aws.Credentials{}, &noCredentials{fmt.Errorf("assume role %s: %w", cfg.RoleARN, err)}
		}
		return found, nil
	}))
	sdk.Credentials = assumed
	w.caches = append(w.caches, assumed)
	return w
}

// watch makes a client's calls throw away credentials that have expired.
func (w *wallet) watch(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("rehost.Wallet", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleInitialize(ctx, in)
		if expired(err) {
			for _, c := range w.caches {
				c.Invalidate()
			}
		}
		return out, meta, err
	}), middleware.Before)
}

// noCredentials says that there are none now.
type noCredentials struct{ err error }

func (e *noCredentials) Error() string { return e.err.Error() }
func (e *noCredentials) Unwrap() error { return e.err }
