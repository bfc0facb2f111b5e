// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector/postgres"
)

func openPostgres(ctx context.Context, dsn, schema string) (*ledger, error) {
	sink, err := postgres.Open(ctx, dsn, schema)
	if err != nil {
		return nil, err
	}
	shown := redact(dsn)
	return &ledger{
		place:   shown,
		example: fmt.Sprintf(`psql %s -c "SELECT * FROM %s.latest"`, cli.Quote(shown), schema),
		close:   sink.Close,
		query:   sink.Each,
		noted:   `SELECT * FROM json_to_recordset($1::json) AS j(chain text, seq bigint, readings bigint, hash text)`,
		hash:    `encode(hash, 'hex')`,
	}, nil
}

// redact takes the password out of a connection URL.
func redact(dsn string) string {
	if u, err := url.Parse(dsn); err == nil && u.Host != "" {
		if u.User != nil {
			u.User = url.User(u.User.Username())
		}
		return u.String()
	}
	return "postgres"
}
