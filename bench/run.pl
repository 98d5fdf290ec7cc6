# Runs the rows of bench/rows and prints the table. START HERE after run.sh, which builds what this needs.
use v5.36;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);

use Headgate::Bench::Report;
use Headgate::Bench::World;

my %options = (
    pairs   => $ENV{PAIRS}       // 7,
    seconds => $ENV{RUN_SECONDS} // 5,
    events  => $ENV{EVENTS}      // 20_000,
    tokens  => $ENV{TOKENS}      // 20_000,
);
for my $name (sort keys %options) {
    die "$name: not a positive whole number: $options{$name}\n" if $options{$name} !~ /\A[1-9][0-9]*\z/;
}

my $rows  = abs_path(dirname(__FILE__)) . '/rows';
my @known = map { basename($_, '.pl') } glob "$rows/*.pl";
my @names = @ARGV ? @ARGV : @known;
for my $name (@names) {
    die "there is no row $name; there are: @known\n" if !grep { $_ eq $name } @known;
}

my $report = Headgate::Bench::Report->new("$Headgate::Bench::World::DIRECTORY/results.txt");
$report->machine($Headgate::Bench::World::DIRECTORY);
for my $name (@names) {
    my $row = do "$rows/$name.pl" or die $@ || "$rows/$name.pl: $!\n";
    $report->progress("$name: $row->{title}");
    my $t = Headgate::Bench::World->new;
    my $result = $row->{run}->($t, \%options, sub ($text) { $report->progress("$name: $text") });
    $report->row(name => $name, %$row, %$result);
    $t->done;
}
$report->summary;
