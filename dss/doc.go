// Package dss calls the API of a Dataiku DSS instance: who am I, who is this
// browser, what a user may be asked about, one's own settings, and every other
// endpoint through [Client.Do] and [Client.Transport].
//
//	client, err := dss.FromEnv() // inside DSS, on a laptop, or on a server
//	if err != nil {
//		return err
//	}
//	who, err := client.AuthInfoFromBrowserHeaders(ctx, r.Header)
//
// # Whom a client calls as
//
// A [Client] calls DSS as one caller and never changes its mind. [New] and
// [FromEnv] give one that calls with its own API key or ticket.
// [Client.WithTicket] and [Client.WithTicketSource] give a copy that calls as
// the user a ticket was made for, in place of its own credentials: this is the
// way DSS documents for webapps. [Client.As] gives a copy that calls as any
// user, which takes an administrator's credentials, and [Client.AsVerified] one
// that first asks DSS whether it does. A client that acts as someone cannot be
// made to act as someone else, and when it cannot get the rights it was made
// for, its calls fail; they never fall back to others.
//
// Credentials are set in the last step before the wire, where any that the
// caller of [Client.Transport] put there are removed.
//
// # What can go wrong
//
// A reply outside 2xx is an [*Error]. So is a redirect: none is followed,
// because Go sends custom headers, and with them the credentials, to wherever it
// is redirected. A 2xx reply that is not what was asked for, such as a proxy's
// login page, is an error that wraps [ErrUnexpectedReply]. Where no reply came
// that can be read, because of the network, TLS, the other end or the call's
// context, the error wraps a [*WireError]. Everything else is about the call
// itself, and nothing was sent.
//
// What DSS or net/http says can quote what was sent. So an error names the
// method and the path, the status, the class that DSS names, and the kind of
// failure, and repeats nothing else: no word of a reply, no value that cannot be
// decoded, no login, no place that a redirect leads to. It can be logged.
// [Error.Message] returns DSS's words to programs that ask for them; [errors.Is]
// and [errors.As] find the cause of a WireError. Log neither. What a ticket
// source of the caller's says is repeated, as one line.
//
// A connection is used again only after a reply that was what was asked for, or
// an error of DSS: a gateway that gives up on DSS may pass DSS's late reply on as
// the reply to the next call.
//
// Replies are bounded, and calls end after 30 seconds where neither their
// context nor Config.HTTPClient says how long they may take. Reads are tried
// once more when DSS drops the connection before it answers; writes never are.
//
// # Credentials in print
//
// Nothing here prints a credential: clients, settings, secrets and errors show
// what they are and not what they hold, also with %#v and in slog. A [Config] is a
// plain struct and redacts itself, but fmt does not ask it to where it sits in
// an unexported field of another struct. Keep the client, not the Config.
package dss
