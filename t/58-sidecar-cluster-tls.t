# The sidecar on a Redis Cluster that is spoken to by TLS, as a user with a password: through a failover and a death, and no
# webhook may reach any of its nodes, the replicas neither.
use v5.36;
use Test::More;

use Headgate::Account;
use Headgate::Authority;
use Headgate::Cluster;
use Headgate::Credentials qw(json);
use Headgate::Http;
use Headgate::Receiver;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $ca   = Headgate::Authority->start($t);
my $PASS = 'node-' . 'p4ss' x 5;
my @tls_ports;
my $cluster = Headgate::Cluster->start(
    $t,
    lines => sub {
        push @tls_ports, $t->port;
        return $ca->redis_lines($tls_ports[-1], 'IP:127.0.0.1') . "tls-cluster yes\ntls-replication yes\n";
    },
);
# One seed is configured, and a user who exists on every node.
for my $node ($cluster->nodes) {
    $node->command('ACL', 'SETUSER', 'ours', 'on', ">$PASS", '~*', '&*', '+@all');
}
my $password_file = $t->write_file('pass', "$PASS\n");
my $other   = Headgate::Authority->start($t, 'other');
my %redis   = (url => "rediss://127.0.0.1:$tls_ports[0]", tls_ca_file => $ca->pem, username => 'ours', password_file => $password_file);
my $lines   = "cluster = true\nshards = 64\n" . join '', map { qq($_ = "$redis{$_}"\n) } sort keys %redis;
my $sidecar = $t->sidecar(redis => $cluster, redis_toml => $lines);

my $toml = $t->read_file($sidecar->config);
$t->write_file($sidecar->config, $toml =~ s/^tls_ca_file = .*/'tls_ca_file = "' . $other->pem . '"'/mer);
my ($code, $said) = $sidecar->run('check-config');
ok $code != 0 && $said =~ /certificate is refused/, 'check-config: an authority that signed nothing here' or diag $said;
$t->write_file($sidecar->config, $toml);
($code, $said) = $sidecar->run('check-config');
is $code, 0, 'check-config reaches the cluster' or diag $said;

my $receiver = Headgate::Receiver->start($t);
$sidecar->serve->wait_until_healthy;
my $front = $sidecar->front(
    redis_address => "127.0.0.1:$tls_ports[0] cluster=on tls=on tls_ca=@{[ $ca->pem ]} username=ours password_file=$password_file",
    http => 'headgate_shards 64;',
);
my $road = Headgate::Account->new($t, sidecar => $sidecar, front => $front, receiver => $receiver);
sub webhook ($url) {
    return Headgate::Http->connect(port => $sidecar->port)->request(
        'POST', '/api/webhooks', headers => ['X-API-Key' => $sidecar->api_key, 'Content-Type' => 'application/json'], body => json({ url => $url, events => ['order.*'] }),
    );
}
is webhook($receiver->url('w'))->status, 201, 'a webhook';
$road->publish(['w'], type => 'order.created') for 1 .. 60;
$road->wait_for_all(20);
pass 'events of all masters are delivered';
sub readers () { map { $_->command('CLIENT', 'LIST') =~ /^.*cmd=xreadgroup.*$/mg } $cluster->masters }
my $by_tls = join '|', @tls_ports;
is scalar(grep { !/ laddr=127\.0\.0\.1:(?:$by_tls) .* user=ours / } readers()), 0, 'every connection that reads is by TLS, as the user';
cmp_ok scalar(() = readers()), '>', 0, '... and there are some';
my @reachable = grep { webhook("http://127.0.0.1:$_/")->status != 422 } @tls_ports;
is_deeply \@reachable, [], 'no webhook may reach any node, of which only one is configured';

$cluster->replica(0)->command('CLUSTER', 'FAILOVER');
$t->wait_for('the replica to take over', sub { $cluster->replica(0)->command('ROLE')->[0] eq 'master' }, 30);
$cluster->node(1)->crash;
$t->wait_for('another to take the place of one that died', sub { $cluster->replica(1)->command('ROLE')->[0] eq 'master' }, 30);
my $accepted = 0;
$t->wait_for('sixty events by the new masters', sub { $accepted++ if $road->try_publish(['w'], type => 'order.created'); $accepted >= 60 }, 30);
$road->wait_for_all(30);
pass 'events are delivered after the failovers';
$sidecar->wait_until_healthy;
unlike $sidecar->process->log_text, qr/p4ss/, 'the log shows no password';

$t->done;
