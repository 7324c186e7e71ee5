// Package dss calls the API of a Dataiku DSS instance: the caller's own auth
// info, the user behind a browser, public facts about a user, the caller's own
// settings, and every other endpoint through [Client.Do] and
// [Client.Transport].
//
//	client, err := dss.FromEnv() // inside DSS, on a laptop, or on a server
//	if err != nil {
//		return err
//	}
//	who, err := client.AuthInfoFromBrowserHeaders(ctx, r.Header)
//
// # Whom a client calls as
//
// A [Client] always calls DSS as the same caller. A client of [New] or
// [FromEnv] calls with its own API key or ticket. [Client.WithTicket] and
// [Client.WithTicketSource] return a copy that calls with a user's ticket in
// place of its own credentials: DSS documents this way for webapps. [Client.As]
// returns a copy that calls as any user; it needs an administrator's
// credentials. [Client.AsVerified] returns a copy that first asks DSS whether
// it really calls as that user. A client that acts as one user cannot be made
// to act as another. If it cannot get that user's rights, its calls fail; they
// never fall back to other rights.
//
// Credentials are set in the last step before the wire. Any that the caller of
// [Client.Transport] set are removed there.
//
// # What can go wrong
//
// A reply outside 2xx is an [*Error]. So is a redirect: none is followed,
// because Go sends custom headers, and with them the credentials, to the new
// address. A 2xx reply that is not a valid answer to the call, such as a
// proxy's login page, is an error that wraps [ErrUnexpectedReply]. If no
// readable reply came, because of the network, TLS, the other end or the call's
// context, the error wraps a [*WireError]. Any other error is about the call
// itself, and nothing was sent.
//
// Texts of DSS and of net/http can quote the bytes that were sent. So an error
// names the method and the path, the status, the class that DSS names, and the
// kind of failure, and repeats nothing else: no word of a reply, no value that
// cannot be decoded, no login, no target of a redirect. It can be logged.
// [Error.Message] returns DSS's words to programs that ask for them;
// [errors.Is] and [errors.As] find the cause of a WireError. Log neither. The
// error of the caller's own ticket source is repeated, as one line.
//
// A connection is used again only after a valid answer, or an error of DSS: a
// proxy that gives up on DSS may pass DSS's late reply on as the reply to the
// next call.
//
// Replies are bounded. Calls end after 30 seconds if neither their context nor
// Config.HTTPClient sets a limit. Reads are tried once more if DSS drops the
// connection before it answers; writes never are.
//
// # Credentials in print
//
// This package prints no credential: clients, settings, secrets and errors show
// their kind and not their content, also with %#v and in slog. A [Config] is a
// plain struct and redacts itself. But fmt calls none of its methods if it is
// in an unexported field of another struct. Keep the client, not the Config.
package dss
